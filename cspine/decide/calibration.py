"""From a logit to P(fracture): temperature or Platt scaling, fitted on held-out slices.

Fitted by a few damped Newton steps on Platt's smoothed targets, so that separable data give finite
parameters. It does not know where a logit comes from, nor any threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cspine.core.errors import DataError

METHODS = ("temperature", "platt")
MIN_SCALE = 0.01  # a calibration never turns the order of two slices round
MAX_LOGIT = 30.0  # beyond it a probability cannot be told from 0 or 1 in float32
FOLDS = 5
NEWTON_STEPS = 60


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e⁻ˣ), float64 in 0..1, without overflow for any finite logit."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, np.float64)))


@dataclass(frozen=True)
class Calibration:
    """`probability = sigmoid(scale · logit + offset)`; `scale` > 0, so the order of slices stays.

    `method` is "temperature" (offset 0; scale is one over the temperature) or "platt".
    """

    method: str
    scale: float
    offset: float

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated P(fracture), float64 in 0..1, for logits of any shape."""
        logits = np.asarray(logits, np.float64)
        return sigmoid(np.clip(self.scale * logits + self.offset, -MAX_LOGIT, MAX_LOGIT))


def fit_calibration(
    logits: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None = None,
    method: str | None = None,
) -> Calibration:
    """Fit a calibration on held-out slices.

    Args:
        logits: float (N,), any range.
        labels: int (N,), 1 is fracture.
        groups: patient of each slice (N,); without it each slice is its own.
        method: "temperature" or "platt"; None takes the one with the lower log loss in a
            5-fold cross-validation by group, temperature on a tie.

    Raises:
        DataError: a class is missing, a logit is not finite, or the method is unknown.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    _check(logits, labels)
    if method is None:
        keys = np.arange(len(labels)) if groups is None else np.asarray(groups)
        method = _better_method(logits, labels, keys)
    if method not in METHODS:
        raise DataError(f"`method` must be one of {', '.join(METHODS)}. Received: {method!r}")
    scale, offset = _fit_logistic(logits, labels, with_offset=method == "platt")
    return Calibration(method, scale, offset)


def _check(logits: np.ndarray, labels: np.ndarray) -> None:
    if logits.shape != labels.shape or logits.ndim != 1:
        raise DataError(
            f"`logits` and `labels` must be of one length. Received: {logits.shape}, {labels.shape}"
        )
    if not np.isfinite(logits).all():
        raise DataError(f"`logits` must be finite. Received: {(~np.isfinite(logits)).sum()} others")
    if labels.min(initial=1) == labels.max(initial=0):
        raise DataError("`labels` must hold both classes. Received: one class")


def _better_method(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> str:
    """Return the method with the lower out-of-fold log loss, folds dealt by group."""
    codes = np.unique(groups, return_inverse=True)[1]
    folds = np.random.default_rng(0).permutation(codes.max() + 1)[codes] % FOLDS
    losses = dict.fromkeys(METHODS, 0.0)
    for fold in range(FOLDS):
        held = folds == fold
        if not held.any() or len(np.unique(labels[~held])) < 2:
            continue
        for method in METHODS:
            scale, offset = _fit_logistic(logits[~held], labels[~held], method == "platt")
            margin = np.where(labels[held] == 1, 1, -1) * (scale * logits[held] + offset)
            losses[method] += np.logaddexp(0.0, -margin).sum()
    return min(METHODS, key=lambda method: losses[method])


def _fit_logistic(logits: np.ndarray, labels: np.ndarray, with_offset: bool) -> tuple[float, float]:
    """Return (scale, offset) of least log loss against Platt's targets (Platt 1999, eq. 4)."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = max(float(np.abs(logits).max()), 1e-12)  # Newton works on logits of order one
    design = np.stack([logits / spread, np.ones_like(logits)])[: 2 if with_offset else 1]
    weights = _newton(design, targets)
    scale = weights[0] / spread
    if scale >= MIN_SCALE:
        return float(scale), float(weights[1]) if with_offset else 0.0
    if not with_offset:
        return MIN_SCALE, 0.0
    rate = targets.mean()  # a model that knows nothing: answer the base rate
    return MIN_SCALE, float(np.log(rate / (1 - rate)) - MIN_SCALE * logits.mean())


def _newton(design: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the weights (F,) of a logistic regression of `targets` (N,) on `design` (F, N)."""
    weights = np.zeros(len(design))
    ridge = 1e-9 * len(targets) * np.eye(len(design))

    def loss(candidate: np.ndarray) -> float:
        margin = candidate @ design
        return float((np.logaddexp(0.0, margin) - targets * margin).sum())

    for _ in range(NEWTON_STEPS):
        fitted = sigmoid(weights @ design)
        gradient = design @ (fitted - targets)
        hessian = (design * (fitted * (1 - fitted))) @ design.T + ridge
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and loss(weights - size * step) > loss(weights):
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return weights
