"""The decision threshold: the calibrated probability from which a slice is called a fracture.

It is chosen on validation slices only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cspine.core.errors import DataError

METHODS = ("sensitivity", "youden")


@dataclass(frozen=True)
class Threshold:
    """A slice is on the fracture's side if its probability is at least `value` (0..1).

    `method` is "sensitivity" (`target` is the sensitivity that it aims at) or "youden"
    (`target` is None).
    """

    value: float
    method: str
    target: float | None

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Return bool of the same shape: True on the fracture's side."""
        return np.asarray(probabilities, np.float64) >= self.value


def choose_threshold(
    probabilities: np.ndarray,
    labels: np.ndarray,
    method: str = "sensitivity",
    target: float = 0.95,
) -> Threshold:
    """Choose the threshold on held-out slices.

    "sensitivity" takes the highest threshold at which at least a share `target` of the fractures is
    called fractures; "youden" takes the threshold with the largest sensitivity + specificity − 1.
    The threshold is set midway between two observed probabilities, so that a rounding error changes
    no decision.

    Args:
        probabilities: float (N,), 0..1.
        labels: int (N,), 1 is fracture.
        method: "sensitivity" or "youden".
        target: the least sensitivity, above 0 and at most 1; used by "sensitivity" only.

    Raises:
        DataError: a class is missing, or `method` or `target` cannot be used.
    """
    scores, labels = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    if len(np.unique(labels)) < 2:
        raise DataError("`labels` must hold both classes. Received: one class")
    if method not in METHODS:
        raise DataError(f"`method` must be one of {', '.join(METHODS)}. Received: {method!r}")
    if not 0 < target <= 1:
        raise DataError(f"`target` must be above 0 and at most 1. Received: {target}")
    # Chosen among observed probabilities, then set between two of them.
    lowest = (
        _lowest_called(scores[labels == 1], target)
        if method == "sensitivity"
        else _youden(scores, labels)
    )
    return Threshold(_midway(scores, lowest), method, target if method == "sensitivity" else None)


def _lowest_called(positives: np.ndarray, target: float) -> float:
    """Return the lowest fracture probability that must be called a fracture for `target`."""
    # The subtrahend allows for rounding: 0.95 · 20 must be 19, not 20.
    needed = max(1, math.ceil(target * len(positives) - 1e-9))
    return float(np.sort(positives)[::-1][needed - 1])


def _youden(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the threshold score with the largest Youden index, on a tie the highest score."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], labels[order]
    index = np.cumsum(hits) / hits.sum() - np.cumsum(1 - hits) / (1 - hits).sum()
    # Equal scores count only at the last of them, since a threshold cannot separate them.
    last_of_ties = np.append(ranked[1:] != ranked[:-1], True)
    return float(ranked[np.where(last_of_ties, index, -np.inf).argmax()])


def _midway(scores: np.ndarray, lowest: float) -> float:
    """Return the middle between `lowest` and the next lower score (0 if there is none)."""
    below = scores[scores < lowest]
    return (lowest + float(below.max(initial=0.0))) / 2
