"""A site's own images: scored by whatever function is given, reported, a threshold proposed."""

import argparse
import csv
import hashlib
import json
import logging
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from cspine.core.errors import ArtifactError, ConfigError, DataError
from cspine.data.index import index_dataset
from cspine.evaluate import cli
from cspine.evaluate.external_validation import choose_slices, evaluate_site
from cspine.evaluate.report.card_text import describe_basis, limits
from cspine.evaluate.report.claim_checklist import answer_claim
from cspine.evaluate.training_fingerprints import SEEN_NAME, read_seen, write_seen
from support.rsna_sets import write_unboxed

# As the command does: what a model says of a blank image counts.
read_site = partial(index_dataset, accept_blank=True)

CARD = {
    "architecture": "cnn",
    "version": "0123456789ab",
    "decision": {
        "threshold": {"value": 0.5, "method": "sensitivity", "target": 1.0},
        "series": {
            "top": 1,
            "scale": 1.0,
            "offset": 0.0,
            "threshold": 0.5,
            "normal": {"quantiles": [0.0, 0.0], "slices": 1000},
        },
    },
}


@dataclass(frozen=True)
class Said:
    prediction: str
    probability: float | None
    in_distribution: bool
    heatmap: np.ndarray | None
    grey: np.ndarray | None


def predict(data: bytes, explain: bool = False) -> Said:
    """The mean grey level as the probability; nothing where the picture is black."""
    import io

    grey = np.asarray(Image.open(io.BytesIO(data)))
    p = float(grey.mean()) / 255
    if p == 0:
        return Said("uncertain", None, False, None, grey if explain else None)
    word = "fracture" if p > 0.6 else "normal" if p < 0.3 else "uncertain"
    return Said(word, p, True, grey if explain else None, grey if explain else None)


@pytest.fixture
def folder(tmp_path):
    """Patients of two slices; truth by patient, one fractured patient dark, one slice black."""
    rows = []
    for patient in range(12):
        for number in range(2):
            fractured = patient % 2 == 1
            level = 0 if (patient, number) == (0, 0) else 40 + 5 * patient + 150 * fractured
            level = 90 if patient == 11 else level
            name = f"p{patient:02d}_{number}.png"
            noise = np.random.default_rng([patient, number]).integers(-3, 4, (64, 64))
            grey = np.zeros((64, 64)) if level == 0 else level + noise
            Image.fromarray(grey.astype(np.uint8)).save(tmp_path / name)
            rows.append((name, "fracture" if fractured else "normal", f"p{patient:02d}"))
    with (tmp_path / "slices.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "patient_id"), *rows])
    return tmp_path


def test_figures_answers_and_proposal(folder):
    result = evaluate_site(read_site(folder), predict, CARD, resamples=50)
    summary = result.summary
    assert (summary["slices"], summary["patients"], summary["fractures"]) == (24, 12, 12)
    assert (summary["without_vertebra"], summary["in_distribution"]) == (1, 23)
    assert summary["answers"] == {"normal": 7, "fracture": 10, "uncertain": 7}
    assert summary["metrics"]["recall"]["value"] == pytest.approx(10 / 12)
    assert summary["patient_metrics"]["recall"]["value"] == pytest.approx(5 / 6)
    assert summary["patients_scored"] == 12
    assert summary["proposed_threshold"]["value"] < 90 / 255
    assert summary["metrics_at_proposed"]["recall"]["value"] == 1.0
    assert summary["seen_in_training"] is None
    json.dumps(summary, allow_nan=False)


def test_the_page_speaks_of_these_images_and_not_of_the_training(folder):
    sides = {"test": {}, "validation": {"slices": 200, "fractures": 98}}
    training = {"layout": "phantom", "patients": 1700, "slices": 13600, "sides": sides}
    card = {**CARD, "data": training, "controls": {"random_labels": 0.5}}
    inputs = evaluate_site(read_site(folder), predict, card, resamples=10).inputs
    assert inputs.card["controls"] == {}
    assert describe_basis(inputs.card) == "They are based on 23 slices of 12 patients."
    told = limits(inputs.card)
    assert told[1].startswith("The labels are taken as they were given")
    assert "“site” are based on 12 patients" in told[3]
    assert told[4].startswith("Probabilities are calibrated for slices of which 49 % are fract")
    answers = [item.answer for item in answer_claim(inputs.card)]
    assert answers[32].startswith("This page: 24 slices of 12 patients of")
    assert answers[32].endswith("in its training is not recorded.")
    assert answers[34].startswith("Included: 24 slices of 12 patients. 0 files left out as copies")
    assert not any("1700" in answer or "13600" in answer for answer in answers)


def test_the_probabilities_are_those_of_the_function(folder):
    result = evaluate_site(read_site(folder), predict, CARD, resamples=10)
    for record, p in zip(result.records, result.scores.probabilities, strict=True):
        said = predict((folder / record.path).read_bytes()).probability
        assert p == said or (said is None and np.isnan(p))


def test_the_mistakes_carry_their_pictures(folder):
    mistakes = evaluate_site(read_site(folder), predict, CARD, resamples=10).inputs.mistakes
    assert {m.name for m in mistakes} == {"p11_0.png", "p11_1.png"}
    assert all(m.truth == "fracture" and m.image.shape == (64, 64) for m in mistakes)


def test_the_training_set_itself_counts_for_nothing(folder):
    dataset = read_site(folder)
    card = {**CARD, "data": {"fingerprint": dataset.fingerprint}}
    result = evaluate_site(dataset, predict, card, resamples=10)
    assert result.summary["seen_in_training"] == 24
    assert "no figure here is valid" in result.inputs.proposal["text"]


def test_slices_that_the_model_has_seen_are_counted(folder, tmp_path):
    dataset = read_site(folder)
    write_seen(tmp_path, dataset.records[:5], dataset.records)
    digest = hashlib.sha256((tmp_path / SEEN_NAME).read_bytes()).hexdigest()
    seen = read_seen(tmp_path, {"files": {SEEN_NAME: digest}})
    result = evaluate_site(dataset, predict, CARD, resamples=10, seen=seen)
    assert result.summary["seen_in_training"] == 5
    words = "The model has seen 5 of these 24 slices in its training, so "
    words += "the figures are too optimistic."
    assert words == limits(result.inputs.card)[0]
    assert words in answer_claim(result.inputs.card)[32].answer
    assert (
        evaluate_site(dataset, predict, CARD, resamples=10, seen=frozenset()).summary[
            "seen_in_training"
        ]
        == 0
    )


def test_a_list_of_another_model_is_not_read(folder, tmp_path):
    records = read_site(folder).records
    write_seen(tmp_path, records, records)
    assert read_seen(tmp_path, {"files": {SEEN_NAME: "0" * 64}}) is None
    assert read_seen(tmp_path / "nowhere", {}) is None


def test_copies_of_a_learned_slice_are_seen(folder, tmp_path):
    one, other, *_ = read_site(folder).records
    write_seen(tmp_path, [one], [one, replace(other, slice_id=one.slice_id)])
    assert (tmp_path / SEEN_NAME).read_text().split() == sorted(
        [one.sha256[:16], other.sha256[:16]]
    )


def test_one_variant_of_a_slice_is_kept(folder):
    records = read_site(folder).records
    chosen, copies = choose_slices([*records, *records])
    assert (len(chosen), copies) == (24, 24)
    with pytest.raises(DataError, match="split `test`"):
        choose_slices(records, "test")


def test_black_pictures_alone_are_no_data_set(folder):
    def mute(data, explain=False):
        return Said("uncertain", None, False, None, None)

    with pytest.raises(DataError, match="0 such slices of 24"):
        evaluate_site(read_site(folder), mute, CARD, resamples=10)


def run(arguments, precisions=None, environment=None):
    parser = argparse.ArgumentParser()

    def factory(models, precision):
        (precisions if precisions is not None else []).append(precision)
        return predict

    cli.register(parser.add_subparsers(), factory)
    given = parser.parse_args(arguments)
    given.environment = environment or {}
    return given.run(given)


def test_the_commands_write_and_rebuild(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    models, out, precisions = write_card(tmp_path / "models"), tmp_path / "out", []
    given = [
        "evaluate",
        str(folder),
        "--models",
        str(models),
        "--out",
        str(out),
        "--resamples",
        "20",
    ]
    assert run(given, precisions, {"CSPINE_PRECISION": "bf16"}) == 0
    assert run([*given, "--precision", "f32"], precisions) == 0
    assert precisions == ["bf16", "f32"]
    assert {p.name for p in out.iterdir()} == {"report", "answers.csv", "evaluation.json"}
    rows = list(csv.DictReader((out / "answers.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 24 and rows[0]["probability"] == "" and rows[2]["prediction"] == "fracture"
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert "A threshold for these images" in page and "by patient" in page
    assert "If it were chosen on these images" in caplog.text

    (out / "best.json").write_text(json.dumps(CARD))
    assert run(["report", "--models", str(out)]) == 0
    assert "A threshold for these images" in (out / "report" / "index.html").read_text("utf-8")


def draw_slice(seed, bright):
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8))
    grey = np.asarray(blobs.resize((256, 256), Image.Resampling.BICUBIC)) / 3.0
    grey = np.clip(grey + 120 * bright + 20 + rng.normal(0, 4, grey.shape), 1, 255)
    return Image.fromarray(grey.astype(np.uint8))


@pytest.fixture
def copied(tmp_path):
    """Four slices, two a class, each with a rotated copy; names that tell nothing."""
    for number in range(4):
        place = tmp_path / "copied" / ("normal", "fracture")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        image = draw_slice(number, number % 2)
        image.save(place / f"{number}a.png")
        image.rotate(4, Image.Resampling.BICUBIC).save(place / f"{number}b.png")
    return tmp_path / "copied"


def write_card(models, card=CARD):
    models.mkdir()
    (models / "best.json").write_text(json.dumps(card))
    return models


def test_copies_that_only_pixels_give_away_count_once(copied, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    models, out = write_card(tmp_path / "models"), tmp_path / "out"
    given = ["evaluate", str(copied), "--models", str(models), "--out", str(out)]
    assert run([*given, "--resamples", "20"]) == 0
    summary = json.loads((out / "evaluation.json").read_text("utf-8"))
    counts = [summary[name] for name in ("slices", "patients", "copies_left_out")]
    assert counts == [4, 4, 4]
    assert "Audit: 8 files are 4 distinct slices (2 normal, 2 fracture) of 4 volumes" in caplog.text
    assert "Left out as copies of other slices: 4 files." in caplog.text
    assert "No audit was recorded" not in (out / "report" / "index.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--resamples", "0"], "`resamples` must be at least 1. Received: 0"),
        (
            ["--out", __file__],
            r"`out` must be a folder\. Received: .*test_external_validation.py is a file",
        ),
        (
            ["--out", f"{__file__}/a/b"],
            r"`out` must be a folder\. Received: .*test_external_validation.py is a file",
        ),
    ],
)
def test_what_cannot_work_is_told_before_scoring(tmp_path, more, named):
    with pytest.raises(ConfigError, match=named):
        run(["evaluate", "nowhere", *more])


def test_a_precision_that_there_is_not_is_told_before_the_data_are_read(tmp_path):
    models = write_card(tmp_path / "models")
    with pytest.raises(ConfigError, match=r"one of auto, f32, bf16, int8\. Received: 'f16'"):
        run(["evaluate", "nowhere", "--models", str(models)], [], {"CSPINE_PRECISION": "f16"})


def test_what_cannot_be_written_is_told_in_one_line(copied, tmp_path):
    models, out = write_card(tmp_path / "models"), tmp_path / "out"
    (out / "answers.csv").mkdir(parents=True)
    given = ["evaluate", str(copied), "--models", str(models), "--out", str(out)]
    with pytest.raises(ConfigError, match=r"`out` must be writable\. Received: .*out \("):
        run([*given, "--resamples", "20"])


def test_a_folder_without_a_card_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"best\.json"):
        run(["report", "--models", str(tmp_path)])


@pytest.mark.parametrize(
    ("decision", "named"),
    [
        (None, "`decision`"),
        ({**CARD["decision"], "series": [1, 2]}, "`series`"),
        ({**CARD["decision"], "series": {"top": 1, "wide": 2}}, "`scale`"),
        ({**CARD["decision"], "series": {**CARD["decision"]["series"], "top": "3"}}, "`top`"),
        ({**CARD["decision"], "threshold": {"value": "half", "method": "youden"}}, "`value`"),
    ],
)
def test_a_malformed_decision_in_the_card_is_named(folder, decision, named):
    with pytest.raises(ArtifactError, match=named):
        evaluate_site(read_site(folder), predict, {**CARD, "decision": decision}, resamples=5)


def test_studies_without_boxes_are_scored_as_studies(tmp_path):
    dataset = read_site(write_unboxed(tmp_path / "set"))
    loud = {dataset.read_bytes(record.path) for record in dataset.unboxed_records}

    def find_them(data: bytes, explain: bool = False) -> Said:
        return Said("uncertain", 0.9 if data in loud else 0.1, True, None, None)

    result = evaluate_site(dataset, find_them, CARD, resamples=10)
    found = result.summary["unboxed_studies"]
    assert (found["studies"], found["scored"]) == (1, 1)
    assert found["recall"]["value"] == found["auroc"]["value"] == 1.0
    assert result.summary["slices"] == len(dataset.records)
    assert result.inputs.card["details"]["site"]["unboxed_studies"] == found
