"""The figures of a site's images as JSON values, at the model's threshold and at a proposed one.

The inputs are only probabilities and true labels, no pixels and no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cspine.core.labels import CLASS_NAMES
from cspine.decide.study_score import SeriesScore
from cspine.decide.threshold import Threshold, choose_threshold
from cspine.evaluate.metrics import compute_metrics, describe_patients
from cspine.evaluate.report.card_text import seen_words
from cspine.evaluate.report.inputs import SplitScores
from cspine.evaluate.report.tables import figure


def summarise(
    scores: SplitScores, threshold: Threshold, series: SeriesScore | None, resamples: int
) -> dict[str, Any]:
    """Return the figures at the model's threshold, and at one chosen on these images.

    `scores` holds every slice with its `predictions` and `in_distribution`. Slices without a
    probability are counted, but are in no figure.
    """
    known = scores.scored()
    predictions = np.asarray(scores.predictions)
    # The rule by which the model's threshold was chosen is applied to these images. Youden's rule
    # has no target and ignores the 0.95.
    proposed = choose_threshold(
        known.probabilities, known.labels, threshold.method, threshold.target or 0.95
    )
    by_patient = _patient_figures(scores, series, resamples)
    return {
        "slices": len(scores.labels),
        "fractures": int(np.sum(scores.labels)),
        "patients": len(np.unique(scores.groups)),
        # Counted apart from mistakes, because a slice without a probability cannot be wrong.
        "without_vertebra": len(scores.labels) - len(known.labels),
        "in_distribution": int(np.sum(np.asarray(scores.in_distribution))),
        "answers": {word: int((predictions == word).sum()) for word in (*CLASS_NAMES, "uncertain")},
        "threshold": threshold.value,
        "metrics": _figures(known, threshold.value, resamples),
        "patient_metrics": by_patient["patients"],
        "patients_scored": by_patient["patients_scored"],
        "proposed_threshold": vars(proposed).copy(),
        "metrics_at_proposed": _figures(known, proposed.value, resamples),
    }


def _figures(known: SplitScores, threshold: float, resamples: int) -> dict[str, Any]:
    found = compute_metrics(known.labels, known.probabilities, threshold, known.groups, resamples)
    return {name: interval.to_dict() for name, interval in found.items()}


def _patient_figures(
    scores: SplitScores, series: SeriesScore | None, resamples: int
) -> dict[str, Any]:
    """Return what `describe_patients` does; None and 0 if the model has no series score."""
    if series is None:
        return {"patients": None, "patients_scored": 0}
    return describe_patients(
        scores.labels, scores.study_probabilities(), scores.groups, series, resamples
    )


def describe_proposal(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the proposal for the report: `text`, and `facts` as name → words."""
    proposed = summary["proposed_threshold"]["value"]
    text = (
        f"{seen_words(summary)} The model's threshold is {summary['threshold']:.3f}. "
        f"If it were chosen on these images by the same rule, it would be {proposed:.3f}. Figures "
        "at a threshold that was chosen on the same images are too optimistic; confirm it on other "
        "images before using it."
    )
    facts = {
        "Slices": f"{summary['slices']}, of which {summary['fractures']} fractured",
        "Copies left out": str(summary["copies_left_out"]),
        "Patients": str(summary["patients"]),
        "Without a vertebra": str(summary["without_vertebra"]),
        "In distribution": str(summary["in_distribution"]),
    }
    before, after = summary["metrics"], summary["metrics_at_proposed"]
    for name, words in (("recall", "Sensitivity"), ("specificity", "Specificity")):
        facts[f"{words} at the model's threshold"] = str(figure(before[name]))
        facts[f"{words} at the proposed threshold"] = str(figure(after[name]))
    return {"text": text.strip(), "facts": facts}
