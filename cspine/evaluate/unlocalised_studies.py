"""Figures of fractured RSNA studies without bounding boxes, whose slices have no labels.

No network was trained on these studies, and no figure of slices includes them. The figures say
whether the series score detects the studies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cspine.core.labels import FRACTURE, NORMAL
from cspine.decide.study_score import SeriesScore
from cspine.evaluate.metrics import compute_metrics, patient_scores
from cspine.evaluate.report.inputs import SplitScores

# Other figures would depend on how many fractured studies happen to be in the set.
FIGURES = ("recall", "auroc")


def describe_unboxed_studies(
    studies: int,
    unboxed: SplitScores,
    labelled: SplitScores,
    series: SeriesScore,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how well the series score finds fractured studies without boxes, as JSON values.

    `studies` is the number of these studies, and `unboxed` holds their slices, whose labels are
    ignored.

    In the result, `scored` is the number of these studies that have a score. If it is not 0, there
    are two figures, each {value, low, high}: `recall` at the series score's threshold, and `auroc`
    against the unfractured patients of `labelled`.
    """
    fractured = _score_patients(unboxed, series)[1]
    found: dict[str, Any] = {"studies": studies, "scored": len(fractured)}
    if len(fractured):
        truths, scores = _score_patients(labelled, series)
        normal = scores[truths == NORMAL]
        labels = np.repeat((FRACTURE, NORMAL), (len(fractured), len(normal)))
        figures = compute_metrics(
            labels, np.concatenate([fractured, normal]), series.threshold, None, resamples, seed
        )
        found |= {name: figures[name].to_dict() for name in FIGURES}
    return found


def _score_patients(slices: SplitScores, series: SeriesScore) -> tuple[np.ndarray, np.ndarray]:
    if len(slices.labels) == 0:
        return np.empty(0, np.int64), np.empty(0)
    return patient_scores(slices.labels, slices.study_probabilities(), slices.groups, series)
