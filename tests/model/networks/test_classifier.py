"""Shapes, cuts and seeds of the four networks."""

import numpy as np
import pytest

from cspine.core.errors import ConfigError
from cspine.model.networks.architectures import ARCHITECTURES
from cspine.model.networks.classifier import build_classifier


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_map_has_a_cell_for_each_eight_pixels(name, saved):
    classifier = saved(name).classifier
    cells = classifier.image_size // 8
    assert classifier.training.output["fracture_map"].shape == (None, cells, cells, 1)
    assert classifier.serving.output["fracture_map"].shape == (None, cells, cells)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("at_tail", [False, True])
def test_trunk_then_tail_is_the_whole(name, at_tail, saved):
    one = saved(name)
    layer = ARCHITECTURES[name].tail_layer if at_tail else None
    trunk, tail = one.classifier.trunk_and_tail(layer)
    pixels = one.images.astype("float32")
    whole = one.classifier.training(pixels, training=False)["logit"]
    parts = tail(trunk(pixels, training=False), training=False)["logit"]
    assert np.allclose(np.asarray(parts), np.asarray(whole), atol=1e-5)


def test_trunk_and_tail_carry_the_map(saved):
    one = saved("resnet50v2")
    trunk, tail = one.classifier.trunk_and_tail(None, with_map=True)
    pixels = one.images.astype("float32")
    parts = tail(trunk(pixels, training=False), training=False)["fracture_map"]
    whole = one.classifier.training(pixels, training=False)["fracture_map"]
    assert np.allclose(np.asarray(parts), np.asarray(whole), atol=1e-5)


def test_the_seed_fixes_the_weights():
    first, again, other = (build_classifier("cnn", 32, seed=seed) for seed in (1, 1, 2))
    pairs = list(zip(first.model.get_weights(), again.model.get_weights(), strict=True))
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert not np.array_equal(first.model.get_weights()[0], other.model.get_weights()[0])


def test_layer_names_do_not_depend_on_what_was_built_before(saved):
    names = [layer.name for layer in saved("inceptionv3").classifier.model.layers]
    # Keras has counted on since the first; our names must not have.
    again = build_classifier("inceptionv3", 75)
    assert names == [layer.name for layer in again.model.layers]


def test_the_cnn_is_compact(saved):
    classifier = build_classifier("cnn", 192)
    assert 200_000 <= classifier.model.count_params() <= 400_000
    assert saved("cnn").path.stat().st_size < 5_000_000


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_size_too_small_is_named(name):
    least = ARCHITECTURES[name].min_size
    with pytest.raises(ConfigError, match=f"at least {least}. Received: {least - 1}"):
        build_classifier(name, least - 1)


def test_an_unknown_name_is_named():
    with pytest.raises(ConfigError, match=r"one of cnn, .*Received: 'vgg'"):
        build_classifier("vgg", 64)
