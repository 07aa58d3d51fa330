"""Figures of fractured studies without boxes (RSNA): their own label is known, and no slice's.

They are in no split: no network learned from them, and no figure of slices holds them. What is
asked is whether the series score finds the study. It fits nothing and writes no file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cspine.core.labels import FRACTURE, NORMAL
from cspine.data.pipeline import load_samples
from cspine.decide.image_checks import check_image
from cspine.decide.series import SeriesScore
from cspine.evaluate.inputs import SplitScores
from cspine.evaluate.metrics import compute_metrics, patient_scores
from cspine.train.candidate import Task
from cspine.train.judge import Judged
from cspine.train.outputs import run_network

# Of fractured studies alone there is no more to tell; others would hang on how many were drawn.
FIGURES = ("recall", "auroc")


def judge_unboxed(best: Judged, task: Task) -> dict[str, Any]:
    """Return how well the series score finds fractured studies without boxes, as JSON values.

    `studies` there are, `scored` of them have a score; `recall` at the series score's threshold,
    `auroc` against the unfractured patients of the last split, each {value, low, high}. Empty
    where there are none, or no series score.
    """
    series, config = best.policy.series, task.config
    if series is None or not task.dataset.unboxed_studies:
        return {}
    fractured = _score_studies(best, task, series)
    found: dict[str, Any] = {
        "studies": len(task.dataset.unboxed_studies),
        "scored": len(fractured),
    }
    if len(fractured):
        split = best.splits[-1]
        truths, scores = patient_scores(
            split.labels, split.study_probabilities(), split.groups, series
        )
        normal = scores[truths == NORMAL]
        labels = np.repeat((FRACTURE, NORMAL), (len(fractured), len(normal)))
        figures = compute_metrics(
            labels, np.concatenate([fractured, normal]), series.threshold, None,
            config.resamples, config.seed,
        )  # fmt: skip
        found |= {name: figures[name].to_dict() for name in FIGURES}
    return found


def _score_studies(best: Judged, task: Task, series: SeriesScore) -> np.ndarray:
    """The series probability of each such study that has one, float64 (G,), 0..1."""
    classifier, dataset = best.candidate.classifier, task.dataset
    # The study's label, which the samples must have and nobody reads as a slice's.
    records = [replace(r, label=dataset.studies[r.patient_id]) for r in dataset.unboxed_records]
    cache = Path(task.config.cache)
    samples = load_samples(
        dataset, records, task.view, classifier.image_size, cache, check=check_image
    )
    # A vertebra may be found in none of a few slices.
    if len(samples) == 0:
        return np.empty(0)
    outputs = run_network(classifier, samples)
    answers = best.policy.decide(outputs.logits, outputs.embeddings, samples.image_ok)
    scores = SplitScores(
        "unboxed", samples.labels, answers.probability, samples.groups,
        in_distribution=answers.in_distribution,
    )  # fmt: skip
    return patient_scores(scores.labels, scores.study_probabilities(), scores.groups, series)[1]
