"""Bars, precision choice, pooled scores and the self-test, each by its rule."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from cspine.core.errors import ConfigError
from cspine.core.train_config import TrainConfig
from cspine.model.networks import pretrained
from cspine.model.networks.classifier import build_classifier
from cspine.train import cli, run
from cspine.train.cross_validation import pool_scores
from cspine.train.fitting.result import FitResult
from cspine.train.int8_proof import find_proven_precision
from cspine.train.model_card import make_self_test
from cspine.train.preflight import check_run
from cspine.train.publish import find_missed
from cspine.train.run import run_training, spread_over_devices

FIGURES = {"train": {}, "test": {"auroc": {"value": 0.8}, "brier": {"value": 0.2}}}


def test_missed_bars_are_named():
    described = "6 slices of 1 patient"
    assert find_missed(FIGURES, (("auroc", 0.8), ("brier", 0.2)), described) == ()
    lines = find_missed(FIGURES, (("auroc", 0.9), ("brier", 0.1)), described)
    assert lines[0] == "`auroc` on test must be at least 0.9. Received: 0.8000 on " + described
    assert "at most 0.1" in lines[1]


def parts(high, flips):
    slow = {"images_per_s": 10.0}
    fast = {
        "images_per_s": 30.0,
        "auroc_loss": {"high": high},
        "flipped_share": flips,
        "computed_in": "int8",
    }
    return {"f32": slow, "bf16": {**fast, "images_per_s": 9.0, "computed_in": "bf16"}, "int8": fast}


@pytest.mark.parametrize(("computed_in", "chosen"), [("bf16", "bf16"), ("f32", "f32")])
def test_a_precision_that_the_cpu_lacks_is_not_proven(computed_in, chosen):
    compared = parts(0.01, 0.001)
    fine = {"auroc_loss": {"high": 0.0}, "flipped_share": 0.0, "images_per_s": 11.0}
    compared["bf16"] = fine | {"computed_in": computed_in}
    assert find_proven_precision(compared, 2000)[0] == chosen


@pytest.mark.parametrize(
    ("high", "flips", "slices", "chosen"),
    [
        (0.001, 0.001, 2000, "int8"),
        (0.01, 0.001, 2000, "f32"),
        (0.001, 0.01, 2000, "f32"),
        (0.001, 0.001, 1999, "f32"),
    ],
)
def test_a_faster_precision_needs_proof(high, flips, slices, chosen):
    assert find_proven_precision(parts(high, flips), slices)[0] == chosen


def test_pooled_scores_are_of_one_epoch_and_average_repeats():
    first = FitResult([], 2, np.array([[1.0, 1.0], [3.0, 5.0]]), "finished")
    short = FitResult([], 1, np.array([[7.0]]), "patience")
    masks = [np.array([True, True, False]), np.array([False, True, False])]
    logits, seen = pool_scores(list(zip(masks, [first, short], strict=True)), 3, position=(0, 2))
    np.testing.assert_array_equal(logits, [3.0, 6.0, 0.0])
    np.testing.assert_array_equal(seen, [True, True, False])


def test_the_self_test_holds_three_drawn_images():
    found = make_self_test(build_classifier("cnn", 32))
    assert len(found["inputs"]) == len(found["expected"]) == 3
    assert all(np.isfinite(found["expected"]))


def test_settings_are_checked_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match="`image_size` for `xception` must be at least 71"):
        check_run(TrainConfig(architectures=("xception",), image_size=64))
    with pytest.raises(ConfigError, match="`require` must name one of"):
        check_run(TrainConfig(require=(("beauty", 1.0),)))
    with pytest.raises(ConfigError, match=r"`weights` must be .* Received: nowhere"):
        check_run(TrainConfig(weights="nowhere"))
    with pytest.raises(ConfigError, match=r"without xception_weights.*_notop\.h5"):
        check_run(TrainConfig(architectures=("xception",), weights=str(tmp_path)))
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match=r"`out` must be a folder\. Received: .*\(a file\)"):
        check_run(TrainConfig(out=str(tmp_path / "out")))
    with pytest.raises(ConfigError, match="`devices` needs KERAS_BACKEND=jax"):
        spread_over_devices(2)
    with pytest.raises(ConfigError, match="`batch_size` must be a multiple of `devices`, 3"):
        check_run(TrainConfig(devices=3))
    with pytest.raises(ConfigError, match="`architectures` must name each entry only once"):
        TrainConfig(architectures=("cnn", "cnn"))
    with pytest.raises(ConfigError, match="`data` must be text that is not empty"):
        TrainConfig(data="")


def test_weights_are_asked_for_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "keras_home", lambda: str(tmp_path))
    monkeypatch.setattr(pretrained, "_download", lambda architecture: None)
    monkeypatch.setattr(run, "audit_first", lambda dataset: pytest.fail("work before weights"))
    with pytest.raises(ConfigError, match=r"needs the file xception_weights.*_notop\.h5"):
        run_training(TrainConfig(architectures=("cnn", "xception")), dataset=object())


def test_an_interrupted_run_says_whether_it_can_go_on(tmp_path, monkeypatch, caplog):
    for name in ("fracture", "normal"):
        (tmp_path / "set" / name).mkdir(parents=True)
        slope = Image.linear_gradient("L").resize((32, 32)).rotate(90 * len(name))
        slope.save(tmp_path / "set" / name / f"{name}.png")
    config = TrainConfig(data=str(tmp_path / "set"), out=str(tmp_path / "out"), resume=True)

    def interrupt(*_):
        (tmp_path / "out/run/cnn").mkdir(parents=True)
        (tmp_path / "out/run/cnn/fit.npz").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_training", interrupt)
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        cli.train(config)
    assert "`--resume` starts from the beginning" in caplog.text
    assert "Use `--resume` to continue from the checkpoints" in caplog.text
