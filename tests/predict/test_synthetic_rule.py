"""A model of synthetic images names no class for an image that is not known to be synthetic."""

import json
from copy import copy

import numpy as np
import pytest

from cspine.__main__ import main
from cspine.phantom.writers.slice_png import encode_slice
from cspine.predict.predictor import Predictor
from cspine.predict.reasons import OPENED, UNRECORDED
from support.tiny_model import NOTE, as_png, build_tiny_model, draw_neck

WHY = (
    "This model learned from synthetic images alone, so it names no class for an image that is "
    "not known to be synthetic. Train a model on your own data: README.md#train-on-your-images."
)


@pytest.fixture(scope="module")
def synthetic_models(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("synthetic") / "models", domain="synthetic")


@pytest.fixture(scope="module")
def closed(synthetic_models):
    return Predictor.load(synthetic_models, "f32", 1)


def test_an_image_without_the_mark_is_not_answered_and_the_network_is_not_asked(closed, neck_png):
    unasked = copy(closed)
    unasked.engine = None
    answer = unasked.predict(neck_png, explain=True)
    assert (answer.prediction, answer.reason.code) == ("uncertain", "synthetic_model")
    assert (answer.probability, answer.region, answer.heatmap) == (None, None, None)
    assert not answer.in_distribution
    assert answer.warnings == (NOTE, WHY)
    assert answer.grey.shape == (256, 256)
    assert answer.to_dict()["model"]["domain"] == "synthetic"
    assert unasked.predict_pixels(draw_neck()).warnings == (NOTE, WHY)


def test_what_is_no_neck_is_told_too(closed):
    picture = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    answer = closed.predict_pixels(picture)
    assert answer.reason.code == "picture"
    assert answer.warnings[1].endswith("The picture is noise.") and answer.warnings[2] == WHY


def test_the_mark_opens_a_synthetic_model(closed, synthetic_models):
    marked = closed.predict(encode_slice(draw_neck()))
    opened = Predictor.load(synthetic_models, "f32", 1, answer_synthetic=True)
    unmarked = opened.predict(as_png(draw_neck()))
    assert marked.prediction in ("fracture", "normal") and marked.warnings == (NOTE,)
    assert unmarked.probability == marked.probability
    assert unmarked.warnings == (NOTE, OPENED)


def test_an_opened_model_gives_its_probability_out_of_distribution_too(synthetic_models):
    opened = Predictor.load(synthetic_models, "f32", 1, answer_synthetic=True)
    answer = opened.predict_pixels(np.full((256, 256), 100, np.uint8))
    assert answer.probability is not None and not answer.in_distribution


def test_the_mark_changes_no_answer_of_another_model(tiny_models, neck_png):
    for opened in (False, True):
        real = Predictor.load(tiny_models, "f32", 1, answer_synthetic=opened)
        assert real.predict(neck_png) == real.predict(encode_slice(draw_neck()))
        assert real.predict(neck_png).warnings == (NOTE,)


def test_a_model_of_unknown_origin_says_so_in_every_answer(closed, neck_png):
    card = {name: value for name, value in closed.card.items() if name != "domain"}
    unknown = Predictor(closed.engine, closed.policy, card)
    answer = unknown.predict(neck_png)
    assert answer.prediction in ("fracture", "normal") and answer.domain == "unknown"
    assert answer.warnings == (NOTE, UNRECORDED)


def test_the_command_follows_the_setting(synthetic_models, tmp_path, monkeypatch, capsys):
    picture, table = tmp_path / "a.png", tmp_path / "out.csv"
    picture.write_bytes(as_png(draw_neck()))
    command = ["predict", str(picture), "--models", str(synthetic_models), "--csv", str(table)]
    assert main([*command, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["prediction"], row["domain"], row["reason"]) == (
        "uncertain",
        "synthetic",
        "synthetic_model",
    )
    monkeypatch.setenv("CSPINE_ANSWER_SYNTHETIC", "on")
    # Answers of two kinds in one table would be compared as if they were one.
    assert main(command) == 2
    assert "same CSPINE_ANSWER_SYNTHETIC" in capsys.readouterr().err
    table.unlink()
    assert main([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["prediction"] in ("fracture", "normal")
    assert OPENED in err
    table.unlink()
    assert main(command[:4]) == 0
    assert "a model of synthetic images, CSPINE_ANSWER_SYNTHETIC is on)" in capsys.readouterr().out
