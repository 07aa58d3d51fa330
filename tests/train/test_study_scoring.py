"""Fractured studies without boxes are scored as studies, beside the unfractured of the split."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cspine.core.train_config import TrainConfig
from cspine.data.index import index_dataset
from cspine.decide.calibration import Calibration
from cspine.decide.conformal import Conformal
from cspine.decide.out_of_distribution import InDistribution
from cspine.decide.policy import DecisionPolicy
from cspine.decide.study_score import NormalLogits, SeriesScore
from cspine.decide.threshold import Threshold
from cspine.evaluate.report.inputs import SplitScores
from cspine.train.candidates import RunContext
from cspine.train.scoring import score_unboxed
from support.rsna_sets import write_unboxed

# It calls nothing a stranger.
GATE = InDistribution(np.zeros((1, 2), np.float32), 1e12, 0.9, np.ones(2, np.float32))


class Network:
    """Answers the same logit for every picture."""

    image_size = 64

    def __init__(self, logit: float) -> None:
        self.logit = logit
        self.serving = self

    def predict_on_batch(self, pixels):
        count = len(pixels)
        return {"logit": np.full((count, 1), self.logit), "embedding": np.zeros((count, 2))}


def scored(logit, series):
    policy = DecisionPolicy(
        Calibration("platt", 1.0, 0.0),
        Threshold(0.5, "youden", None),
        Conformal(0.1, 0.5, 0.5),
        GATE,
        series,
    )
    split = SplitScores(
        "test", np.array([0, 0, 1]), np.array([0.2, 0.4, 0.1]), np.array(["a", "b", "c"])
    )
    candidate = SimpleNamespace(classifier=Network(logit))
    return SimpleNamespace(policy=policy, splits=[split], candidate=candidate)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return index_dataset(write_unboxed(tmp_path_factory.mktemp("rsna") / "set"))


def test_the_series_score_finds_the_study_or_does_not(dataset, tmp_path):
    config = TrainConfig(cache=str(tmp_path), resamples=20)
    context = RunContext(config, dataset, None, "slice", None)
    rule = SeriesScore(1, 1.0, 0.0, 0.5, NormalLogits((0.0, 0.0), 99))
    found = score_unboxed(scored(1.0, rule), context)
    assert (found["studies"], found["scored"]) == (1, 1)
    assert found["recall"]["value"] == found["auroc"]["value"] == 1.0
    # Between the two unfractured patients, and below the threshold.
    missed = score_unboxed(scored(-1.0, rule), context)
    assert (missed["recall"]["value"], missed["auroc"]["value"]) == (0.0, 0.5)
    assert score_unboxed(scored(1.0, None), context) == {}
