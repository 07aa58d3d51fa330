"""Figures of a ranking (ROC and precision–recall) for many weightings of the slices at once.

Each function takes weights (R, N) of slices in descending order of probability; ties are steps of
one size, as scikit-learn has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """Cumulative weights at the end of each run of tied probabilities, highest first.

    `hits` and `alarms` (R, T + 1) start at 0: weight of fractures and of normals called so far;
    `scores` (T,) is the probability of each run.
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
    # Steps end where the probability changes: tied slices are called together or not at all.
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    # Sorted once; every resample then is a cumulative sum of other weights.
    ranked, positive = weights[:, order], labels[order] == 1
    hits = np.cumsum(ranked * positive, axis=1)[:, ends]
    alarms = np.cumsum(ranked * ~positive, axis=1)[:, ends]
    # The point at which nothing is called, without which the area would miss its first step.
    start = np.zeros((len(weights), 1))
    return Ranking(np.hstack([start, hits]), np.hstack([start, alarms]), scores[ends])


def area_under_roc(ranking: Ranking) -> np.ndarray:
    """Return AUROC (R,), by trapezoids: the chance that a fracture outranks a normal slice."""
    # Ties make a slanted step, of which the trapezoid counts half, as Mann and Whitney do.
    return np.asarray(np.trapezoid(ranking.sensitivity, ranking.false_positive_rate, axis=1))


def compute_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the AUROC of scores (N,) for labels (N,), 1 a fracture; NaN with one class only."""
    return float(area_under_roc(rank(labels, scores, np.ones((1, len(labels)))))[0])


def average_precision(ranking: Ranking) -> np.ndarray:
    """Return AUPRC (R,) as Σ (recallₖ − recallₖ₋₁) · precisionₖ, not interpolated."""
    called = ranking.hits + ranking.alarms
    # Steps: the points of a line between two cannot be reached here (Davis and Goadrich 2006).
    precision = np.divide(ranking.hits, called, out=np.zeros_like(called), where=called > 0)
    return np.asarray((np.diff(ranking.sensitivity, axis=1) * precision[:, 1:]).sum(axis=1))


def sensitivity_at_specificity(ranking: Ranking, specificity: float) -> np.ndarray:
    """Return (R,) the highest sensitivity of any threshold with at least this specificity."""
    # The tolerance undoes rounding: a specificity of exactly 0.95 counts.
    allowed = ranking.false_positive_rate <= 1 - specificity + 1e-12
    return _where_known(ranking, np.where(allowed, ranking.sensitivity, 0.0).max(axis=1))


def specificity_at_sensitivity(ranking: Ranking, sensitivity: float) -> np.ndarray:
    """Return (R,) the highest specificity of any threshold with at least this sensitivity."""
    reached = ranking.sensitivity >= sensitivity - 1e-12
    return _where_known(
        ranking, np.where(reached, 1 - ranking.false_positive_rate, 0.0).max(axis=1)
    )


def _where_known(ranking: Ranking, figures: np.ndarray) -> np.ndarray:
    """Return `figures` (R,), NaN where a class has no weight."""
    both = (ranking.hits[:, -1] > 0) & (ranking.alarms[:, -1] > 0)
    return np.where(both, figures, np.nan)


def _share(cumulative: np.ndarray) -> np.ndarray:
    total = cumulative[:, -1:]
    shares = np.full_like(cumulative, np.nan)
    return np.asarray(np.divide(cumulative, total, out=shares, where=total > 0))
