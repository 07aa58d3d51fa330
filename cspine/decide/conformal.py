"""Split-conformal prediction sets: which classes remain possible at a given probability.

Each class has a quantile of its own. A class's score is one minus its probability. If validation
slices and new slices are exchangeable, at most a share `alpha` of the slices of each class get a
set without their true class, however common the class is (Vovk's label-conditional, or Mondrian,
validity).
`out_of_distribution.py` checks whether a new slice is like the known ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cspine.core.errors import DataError
from cspine.core.labels import CLASS_NAMES, FRACTURE, NORMAL


@dataclass(frozen=True)
class Conformal:
    """The highest score at which each class is in the set, 0..1; with 1 it always is.

    `alpha` is the nominal share of the slices of each class whose set may lack that class.
    """

    alpha: float
    quantile_normal: float
    quantile_fracture: float

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Return bool (N, 2): whether each class is possible, in the order of CLASS_NAMES.

        `probabilities` is P(fracture), float (N,), 0..1. A row can hold no, one or two
        possible classes.
        """
        scores = class_scores(probabilities)  # (N, 2)
        # `<=`, since the slice whose score is the quantile must be covered.
        return scores <= np.array([self.quantile_normal, self.quantile_fracture])


def class_scores(probabilities: np.ndarray) -> np.ndarray:
    """Return float64 (N, 2): one minus the probability of each class."""
    fracture = np.asarray(probabilities, np.float64)
    return np.stack([fracture, 1.0 - fracture], axis=-1)


def fit_conformal(probabilities: np.ndarray, labels: np.ndarray, alpha: float = 0.1) -> Conformal:
    """Fit both classes' quantiles on held-out slices.

    With n slices of a class, its quantile is the ⌈(n + 1)(1 − alpha)⌉-th smallest score, or 1 if
    n is too small for that (Angelopoulos and Bates 2023, section 1 and 4.1).

    Args:
        probabilities: calibrated P(fracture), float (N,), 0..1.
        labels: int (N,), 1 is fracture.
        alpha: nominal miss rate in each class, above 0 and below 1.

    Raises:
        DataError: a class is missing or `alpha` is out of range.
    """
    if not 0 < alpha < 1:
        raise DataError(f"`alpha` must be above 0 and below 1. Received: {alpha}")
    labels = np.asarray(labels, np.int64)
    scores = class_scores(probabilities)
    return Conformal(
        alpha,
        _quantile(scores[labels == NORMAL, NORMAL], alpha, NORMAL),
        _quantile(scores[labels == FRACTURE, FRACTURE], alpha, FRACTURE),
    )


def _quantile(scores: np.ndarray, alpha: float, label: int) -> float:
    if len(scores) == 0:
        raise DataError(f"`labels` must hold both classes. Received: no {CLASS_NAMES[label]}")
    # The subtrahend allows for rounding: the rank of 0.9 · 10 must be 9, not 10.
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    # With too few slices nothing can be guaranteed, so the class always stays in the set.
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else 1.0
