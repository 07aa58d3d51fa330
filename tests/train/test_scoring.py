"""The figures on a split are those of the served answer: a picture that fails is uncertain."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from cspine.core.train_config import TrainConfig
from cspine.data.split import Split
from cspine.decide.calibration import Calibration
from cspine.decide.conformal import Conformal
from cspine.decide.out_of_distribution import fit_distance
from cspine.decide.policy import DecisionPolicy
from cspine.decide.threshold import Threshold
from cspine.evaluate.metrics import compute_patient_metrics
from cspine.evaluate.report.inputs import SplitScores
from cspine.train import scoring
from cspine.train.candidates import Candidate
from cspine.train.int8_proof import compare_answers
from cspine.train.network_outputs import Outputs
from cspine.train.scoring import (
    OUT_OF_FOLD,
    detail_figures,
    fit_series_score,
    score_candidate,
    score_split,
)

EMBEDDINGS = np.random.default_rng(0).normal(size=(36, 4)).astype(np.float32)
POLICY = DecisionPolicy(
    Calibration("temperature", 1.0, 0.0),
    Threshold(0.5, "youden", None),
    Conformal(0.1, 0.4, 0.4),
    fit_distance(EMBEDDINGS, 1.0),
)


def test_a_picture_that_fails_the_check_is_uncertain(samples):
    image_ok = np.arange(len(samples)) != 3
    logits = np.where(samples.labels == 1, 4.0, -4.0)
    scores = score_split(
        "test", replace(samples, image_ok=image_ok), Outputs(logits, EMBEDDINGS), POLICY
    )
    assert np.asarray(scores.in_distribution).tolist() == image_ok.tolist()
    assert [word == "uncertain" for word in scores.predictions] == (~image_ok).tolist()


def test_a_strange_slice_has_no_say_in_its_patients_score():
    labels, groups = np.array([1, 0, 0, 0]), np.array(["a", "a", "b", "b"])
    split = SplitScores(
        "validation",
        labels,
        np.array([0.9, 0.2, 0.1, 0.99]),
        groups,
        in_distribution=np.array([True, True, True, False]),
    )
    rule = fit_series_score(split, TrainConfig())
    # The slices that stand for normal ones are those two that are known.
    assert rule is not None and rule.normal is not None and rule.normal.slices == 2
    assert np.isnan(split.study_probabilities()).tolist() == [False, False, False, True]
    strangers = replace(split, in_distribution=np.zeros(4, bool))
    assert fit_series_score(strangers, TrainConfig()) is None
    nobody = compute_patient_metrics(labels, strangers.study_probabilities(), groups, rule)
    assert nobody == {}


def test_precisions_are_compared_on_served_answers(samples):
    samples = replace(samples, image_ok=np.arange(36) != 3)
    exact = np.where(samples.labels == 1, 4.0, -4.0).astype(np.float32)
    # The refused one cannot flip.
    other = np.where(np.arange(36) < 4, -exact, exact)
    answers = [POLICY.decide(one, EMBEDDINGS, samples.image_ok) for one in (exact, other)]
    assert compare_answers(*answers, samples, 20)["flipped_share"] == 3 / 36


def test_left_out_slices_are_known_by_their_own_folds_distance(samples, monkeypatch):
    train, held_out = samples, samples.take(~samples.is_twin)
    # The shipped network finds every slice familiar, for it has learned from all of them.
    seen = Outputs(np.zeros(24), EMBEDDINGS[:24])
    monkeypatch.setattr(scoring, "run_network", lambda *_: seen)
    distances = np.arange(1.0, 25.0)
    image_ok = np.arange(24) != 2
    logits = np.where(held_out.labels == 1, 4.0, -4.0)
    candidate = Candidate(
        classifier=None,
        train=train,
        held_out=replace(held_out, image_ok=image_ok),
        logits=logits,
        result=None,
        seconds=0.0,
        distances=distances,
    )
    config = TrainConfig(resamples=20, in_distribution_quantile=0.9)
    scored = score_candidate(
        candidate, SimpleNamespace(config=config, split=Split((), (), (), note="", folds=()))
    )
    assert scored.policy.in_distribution.threshold == 22.0
    (split,) = scored.splits
    expected = (distances <= 22.0) & image_ok
    assert np.asarray(split.in_distribution).tolist() == expected.tolist()
    details = detail_figures(scored, config)
    assert details[OUT_OF_FOLD]["in_distribution_share"] == 21 / 24
