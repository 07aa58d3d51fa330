"""Figures of a ranking (ROC and precision–recall) for many weightings of the slices at once.

`rank` sorts the slices by probability and sums up their weights (R, N); the other functions compute
figures from its result. Slices with the same probability form one step, as in scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """Cumulative weights at the end of each run of tied probabilities, highest first.

    `hits` and `alarms` (R, T + 1) are the weights of the fractures and of the normal slices called
    fractures so far, and start at 0; `scores` (T,) is the probability of each run.
    """

    hits: np.ndarray
    alarms: np.ndarray
    scores: np.ndarray

    @property
    def sensitivity(self) -> np.ndarray:
        """Return (R, T + 1) in 0..1, NaN in resamples without a fracture."""
        return _share(self.hits)

    @property
    def false_positive_rate(self) -> np.ndarray:
        """Return (R, T + 1) in 0..1, NaN in resamples without a normal slice."""
        return _share(self.alarms)


def rank(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> Ranking:
    """Return the ranking of slices (N,) under weights (R, N)."""
    order = np.argsort(-probabilities, kind="stable")
    scores = probabilities[order]
    # A step ends where the probability changes: tied slices are all called fractures, or none.
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    # Sorted once for all resamples; each resample needs only a cumulative sum of its weights.
    ranked, positive = weights[:, order], labels[order] == 1
    hits = np.cumsum(ranked * positive, axis=1)[:, ends]
    alarms = np.cumsum(ranked * ~positive, axis=1)[:, ends]
    # Without the point at which no slice is called a fracture, the area would lack its first step.
    start = np.zeros((len(weights), 1))
    return Ranking(np.hstack([start, hits]), np.hstack([start, alarms]), scores[ends])


def area_under_roc(ranking: Ranking) -> np.ndarray:
    """Return AUROC (R,), by trapezoids: the chance that a fracture outranks a normal slice."""
    # Ties make a slanted step. The trapezoid counts half of it, as Mann and Whitney do.
    return np.asarray(np.trapezoid(ranking.sensitivity, ranking.false_positive_rate, axis=1))


def compute_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the AUROC of scores (N,) for labels (N,), 1 is fracture; NaN if a class is missing."""
    return float(area_under_roc(rank(labels, scores, np.ones((1, len(labels)))))[0])


def average_precision(ranking: Ranking) -> np.ndarray:
    """Return AUPRC (R,) as Σ (recallₖ − recallₖ₋₁) · precisionₖ, not interpolated."""
    called = ranking.hits + ranking.alarms
    # Summed as steps, because points on a straight line between two points of a precision–recall
    # curve cannot be reached (Davis and Goadrich 2006).
    precision = np.divide(ranking.hits, called, out=np.zeros_like(called), where=called > 0)
    return np.asarray((np.diff(ranking.sensitivity, axis=1) * precision[:, 1:]).sum(axis=1))


def sensitivity_at_specificity(ranking: Ranking, specificity: float) -> np.ndarray:
    """Return the highest sensitivity (R,) of any threshold with at least this specificity."""
    # The tolerance allows for rounding: a specificity of exactly 0.95 counts as 0.95.
    allowed = ranking.false_positive_rate <= 1 - specificity + 1e-12
    return _where_known(ranking, np.where(allowed, ranking.sensitivity, 0.0).max(axis=1))


def specificity_at_sensitivity(ranking: Ranking, sensitivity: float) -> np.ndarray:
    """Return the highest specificity (R,) of any threshold with at least this sensitivity."""
    reached = ranking.sensitivity >= sensitivity - 1e-12
    return _where_known(
        ranking, np.where(reached, 1 - ranking.false_positive_rate, 0.0).max(axis=1)
    )


def _where_known(ranking: Ranking, figures: np.ndarray) -> np.ndarray:
    """Return `figures` (R,), with NaN for resamples in which a class has no weight."""
    both = (ranking.hits[:, -1] > 0) & (ranking.alarms[:, -1] > 0)
    return np.where(both, figures, np.nan)


def _share(cumulative: np.ndarray) -> np.ndarray:
    total = cumulative[:, -1:]
    shares = np.full_like(cumulative, np.nan)
    return np.asarray(np.divide(cumulative, total, out=shares, where=total > 0))
