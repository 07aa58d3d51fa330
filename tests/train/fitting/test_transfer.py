"""Frozen trunk, cached activations, tuned top: what moves, what does not, and what is run once."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from cspine.model.networks.architectures import find_architecture
from cspine.model.networks.classifier import build_classifier
from cspine.stats.ranking import compute_auroc
from cspine.train.fitting import transfer
from cspine.train.fitting.activation_cache import cache_features
from cspine.train.fitting.augment import augment
from cspine.train.fitting.batches import as_pixels, pair_units
from cspine.train.fitting.result import FitResult
from cspine.train.fitting.trainer import FitPlan, TimeBudget
from cspine.train.fitting.transfer import TransferPlan, fit_transfer, freeze_norms
from support.fits import add_tiny_architecture
from support.train_samples import draw_samples

HEAD = FitPlan(epochs=6, batch_size=16, learning_rate=3e-2, seed=0, patience=None)
TUNE = replace(HEAD, epochs=1, learning_rate=1e-3)


def spoil_statistics(classifier):
    """Give batch norms statistics that are not those of a new network."""
    rng = np.random.default_rng(0)
    for layer in classifier.backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.8, 1.2, layer.moving_variance.shape))
    return classifier


@pytest.fixture(scope="module")
def classifier():
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_architecture(patch)
        yield spoil_statistics(build_classifier("tiny", 32, seed=1))


@pytest.fixture
def fresh(classifier):
    """The same backbone, its weights put back after the test."""
    before = classifier.model.get_weights()
    yield classifier
    classifier.model.set_weights(before)


@pytest.fixture
def calls(monkeypatch):
    """The sizes of the batches that any network but the fitted one was run on."""
    sizes = []
    run = keras.Model.predict_on_batch

    def counted(self, x):
        if self.name == "trunk":
            sizes.append(len(x))
        return run(self, x)

    monkeypatch.setattr(keras.Model, "predict_on_batch", counted)
    return sizes


def weights_of(classifier):
    """Layer name → arrays."""
    return {layer.name: layer.get_weights() for layer in classifier.model.layers}


def check_roads(classifier, layer, samples, cache):
    trunk, tail = classifier.trunk_and_tail(layer)
    source = cache_features(trunk, samples, "a", cache, copies=1)
    inputs, _ = source.take(np.arange(len(samples)), None)
    cached = np.asarray(tail(inputs, training=False)["logit"])
    pixels = as_pixels(samples.images)
    whole = np.asarray(classifier.training(pixels, training=False)["logit"])
    assert source.features.dtype == np.float16
    np.testing.assert_allclose(cached, whole, atol=2e-3 * np.abs(whole).max())


@pytest.mark.parametrize("layer", [None, "one_out"])
def test_the_cached_road_gives_the_whole_networks_logits(classifier, samples, tmp_path, layer):
    check_roads(classifier, layer, samples, tmp_path)


def test_a_published_backbones_roads_agree_too(tmp_path):
    resnet = spoil_statistics(build_classifier("resnet50v2", 32))
    check_roads(resnet, find_architecture("resnet50v2").tail_layer, draw_samples(4), tmp_path)


def test_activations_are_computed_once_and_kept_by_content(classifier, samples, tmp_path, calls):
    trunk, _ = classifier.trunk_and_tail()
    first = cache_features(trunk, samples, "a", tmp_path, 2, augment)
    assert sum(calls) == 2 * len(samples)
    calls.clear()
    again = cache_features(trunk, samples, "a", tmp_path, 2, augment)
    np.testing.assert_array_equal(first.features, again.features)
    assert calls == []
    other = samples.images.copy()
    other[3, 5, 5] ^= 1
    for changed in (replace(samples, images=other), replace(samples, is_twin=~samples.is_twin)):
        cache_features(trunk, changed, "a", tmp_path, 2, augment)
        assert sum(calls) == 2 * len(samples)
        calls.clear()
    cache_features(trunk, samples, "b", tmp_path, 2, augment)
    assert sum(calls) == 2 * len(samples)


def test_folds_of_the_same_samples_share_their_activations(classifier, samples, tmp_path, calls):
    trunk, _ = classifier.trunk_and_tail()
    whole = cache_features(trunk, samples, "a", tmp_path, 2, augment)
    calls.clear()
    left = np.arange(len(samples)) % 3 == 0
    fold = cache_features(trunk, samples.take(~left), "a", tmp_path, 2, augment)
    again = cache_features(
        trunk, samples.take(~left).take(fold.labels == 1), "a", tmp_path, 2, augment
    )
    assert calls == []
    for source, rows in ((fold, ~left), (again, ~left & (samples.labels == 1))):
        found, expected = (
            one.take(at, None)[0]["features"]
            for one, at in ((source, np.arange(rows.sum())), (whole, np.flatnonzero(rows)))
        )
        np.testing.assert_array_equal(found, expected)


def test_other_weights_are_other_activations(fresh, samples, tmp_path, calls):
    trunk, _ = fresh.trunk_and_tail()
    cache_features(trunk, samples, "a", tmp_path, copies=1)
    fresh.backbone.get_layer("one_conv").bias.assign(np.ones(8))
    cache_features(trunk, samples, "a", tmp_path, copies=1)
    assert sum(calls) == 2 * len(samples)


def test_a_twin_gets_its_fractures_copy_and_draw(tmp_path):
    samples = draw_samples(count=60)
    units = pair_units(samples)
    # The mean of a crop stands for its activations: it shows mirror, shift and window alike.
    pixels = keras.Input((32, 32, 3))
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(pixels)
    trunk = keras.Model(pixels, {"features": mean})
    same = np.repeat(samples.images[:1], len(samples), axis=0)
    source = cache_features(trunk, replace(samples, images=same), "mean", tmp_path, 4, augment)
    rng = np.random.default_rng(0)
    values = source.take(np.arange(len(samples)), rng)[0]["features"][:, 0]
    for twin in np.flatnonzero(samples.is_twin):
        pair = values[units == units[twin]]
        assert len(pair) == 2
        assert np.ptp(pair) < 1.0  # only the noise differs
    assert np.ptp(values) > 10.0


def test_only_the_tuned_layers_change_and_no_statistics_move(fresh, samples, tmp_path):
    before = weights_of(fresh)
    plan = TransferPlan(replace(HEAD, epochs=1), TUNE, 2, augment, tmp_path / "cache")
    fit_transfer(fresh, samples, None, plan, TimeBudget(None), tmp_path)
    after = weights_of(fresh)
    pairs = {name: zip(before[name], after[name], strict=True) for name in before}
    moved = {name for name, pair in pairs.items() if any((a != b).any() for a, b in pair)}
    assert moved == {"two_conv", "logit"}


def test_a_head_on_embeddings_finds_what_is_planted(fresh, tmp_path):
    backbone = weights_of(fresh)
    train, held_out = draw_samples(64, seed=1), draw_samples(32, seed=2)
    plan = TransferPlan(HEAD, replace(TUNE, epochs=0), 2, augment, tmp_path / "cache")
    result = fit_transfer(fresh, train, held_out, plan, TimeBudget(None), tmp_path)
    assert result.best_value > 0.95
    logits = np.asarray(fresh.training.predict_on_batch(as_pixels(held_out.images))["logit"])
    assert compute_auroc(held_out.labels, logits[:, 0]) > 0.95
    after = weights_of(fresh)
    for name, arrays in backbone.items():
        same = all((a == b).all() for a, b in zip(arrays, after[name], strict=True))
        assert same == (name != "logit"), name


def test_a_second_run_computes_nothing_again(fresh, samples, tmp_path, calls):
    before = fresh.model.get_weights()
    plan = TransferPlan(replace(HEAD, epochs=1), TUNE, 2, augment, tmp_path / "cache")
    fit_transfer(fresh, samples, samples, plan, TimeBudget(None), tmp_path / "one")
    assert sum(calls) == 2 * (2 + 1) * len(samples)  # two cuts; two copies, and one to judge on
    calls.clear()
    fresh.model.set_weights(before)
    fit_transfer(fresh, samples, samples, plan, TimeBudget(None), tmp_path / "two")
    assert calls == []


def stages(monkeypatch, *results):
    """Make the stages of a fit give these results (or raise them), and spoil the weights."""
    given = iter(results)

    def fit_stage(classifier, *_):
        result = next(given)
        classifier.model.set_weights([w + 1 for w in classifier.model.get_weights()])
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(transfer, "_fit_stage", fit_stage)


def result_of(value, stopped="finished"):
    entry = {"epoch": 1, "value": value, "validation_loss": 0.5}
    return FitResult([entry], 1, np.array([[value, 0.0]]), stopped)


@pytest.mark.parametrize(
    ("tuned", "steps", "best"),
    [
        (result_of(0.9), 2, 2),
        (result_of(0.8), 1, 1),
        (result_of(0.7), 1, 1),
        (KeyboardInterrupt(), 1, 1),
    ],
)
def test_tuning_is_kept_only_where_it_is_better(
    monkeypatch, fresh, samples, tmp_path, tuned, steps, best
):
    stages(monkeypatch, result_of(0.8), tuned)
    plan = TransferPlan(HEAD, TUNE, 1, None, None)
    before = fresh.model.get_weights()[0]
    result = fit_transfer(fresh, samples, samples, plan, TimeBudget(None), tmp_path)
    np.testing.assert_allclose(fresh.model.get_weights()[0], before + steps, atol=1e-5)
    assert result.best_epoch == best
    assert (result.stopped == "interrupted") == isinstance(tuned, KeyboardInterrupt)


def test_frozen_norms_run_in_inference_mode(classifier):
    _, tail = classifier.trunk_and_tail("one_out")
    freeze_norms(tail)
    norms = [one for one in tail.layers if isinstance(one, layers.BatchNormalization)]
    assert [(norm.name, norm.trainable) for norm in norms] == [("two_bn", False)]
