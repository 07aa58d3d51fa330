"""Calibration of logits to P(fracture): temperature, Platt or beta, fitted on held-out slices.

The parameters are fitted by damped Newton steps on Platt's smoothed targets, so that separable data
give finite parameters. Beta calibration (Kull, Silva Filho and Flach 2017) has one slope on each
side of 0. The reason is that a network can be sure that there is a fracture, but never as sure that
there is none, since the thinnest fractures are invisible.

A CNN was trained on 1,190 synthetic patients, calibrated on 2,035 slices of 255 other patients and
scored on 2,033 slices of 255 more. Its ECE was 0.032 with temperature, 0.029 with Platt and 0.016
with beta (log loss 0.401, 0.401 and 0.399). With the two sets of 255 patients exchanged, the ECE
was 0.033, 0.030 and 0.020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cspine.core.errors import DataError

# Sorted by number of parameters, so that the simplest method wins a tie.
METHODS = ("temperature", "platt", "beta")
# Positive, so that a calibration never reverses the order of two slices.
MIN_SCALE = 0.01
# At this logit, a probability is within 1e-13 of 0 or 1.
MAX_LOGIT = 30.0
FOLDS = 5
# An upper bound, since the loop ends as soon as a step changes almost nothing.
NEWTON_STEPS = 60


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e⁻ˣ), float64 in 0..1, without overflow for any finite logit."""
    # Computed with tanh, which saturates instead of overflowing.
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, np.float64)))


def softplus(logits: np.ndarray) -> np.ndarray:
    """Return log(1 + eˣ), float64, without overflow."""
    return np.asarray(np.logaddexp(0.0, np.asarray(logits, np.float64)))


@dataclass(frozen=True)
class Calibration:
    """`probability = sigmoid(scale · logit + offset)`; `scale` > 0 keeps the order of slices.

    `method` is "temperature" (offset 0; scale is one over the temperature), "platt" or "beta". Only
    "beta" has `low_scale` > 0, the slope for logits far below 0; `scale` is then the slope for
    logits far above 0:
    `sigmoid(scale · softplus(logit) − low_scale · softplus(−logit) + offset)`.
    """

    method: str
    scale: float
    offset: float
    low_scale: float | None = None

    def margin(self, logits: np.ndarray) -> np.ndarray:
        """Return the calibrated logit, float64, for logits of any shape."""
        logits = np.asarray(logits, np.float64)
        if self.low_scale is None:
            return np.asarray(self.scale * logits + self.offset)
        below = self.low_scale * softplus(-logits)
        return np.asarray(self.scale * softplus(logits) - below + self.offset)

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated P(fracture), float64 in 0..1, for logits of any shape."""
        return sigmoid(np.clip(self.margin(logits), -MAX_LOGIT, MAX_LOGIT))


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
        groups: patient of each slice (N,); without it, each slice counts as a patient of its own.
        method: one of METHODS; None takes the method with the lowest log loss in a 5-fold
            cross-validation by group, or on a tie the method with fewer parameters.

    Raises:
        DataError: a class is missing, a logit is not finite, or the method is unknown.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    _check(logits, labels)
    if method is None:
        # Split by patient: with slices of one patient in both parts, the method that fits most
        # closely would win.
        keys = np.arange(len(labels)) if groups is None else np.asarray(groups)
        method = _better_method(logits, labels, keys)
    if method not in METHODS:
        raise DataError(f"`method` must be one of {', '.join(METHODS)}. Received: {method!r}")
    return _fit(logits, labels, method)


def _check(logits: np.ndarray, labels: np.ndarray) -> None:
    if logits.shape != labels.shape or logits.ndim != 1:
        raise DataError(
            "`logits` and `labels` must have the same length. "
            f"Received: {logits.shape}, {labels.shape}"
        )
    if not np.isfinite(logits).all():
        raise DataError(
            f"`logits` must be finite. Received: {(~np.isfinite(logits)).sum()} that are not"
        )
    if labels.min(initial=1) == labels.max(initial=0):
        raise DataError("`labels` must hold both classes. Received: one class")


def _better_method(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> str:
    """Return the method with the lowest out-of-fold log loss; folds keep groups together."""
    codes = np.unique(groups, return_inverse=True)[1]
    # The seed is fixed, so that the choice does not depend on the run's seed. The sizes of two
    # folds differ by at most one group.
    folds = np.random.default_rng(0).permutation(codes.max() + 1)[codes] % FOLDS
    losses = dict.fromkeys(METHODS, 0.0)
    for fold in range(FOLDS):
        held = folds == fold
        # With few patients, a fold may be empty, or the slices to fit on may be of one class only.
        if not held.any() or len(np.unique(labels[~held])) < 2:
            continue
        for method in METHODS:
            margin = _fit(logits[~held], labels[~held], method).margin(logits[held])
            # −log P(true class) is softplus(−margin) for a fracture, softplus(margin) otherwise.
            losses[method] += softplus(np.where(labels[held] == 1, -1, 1) * margin).sum()
    return min(METHODS, key=lambda method: losses[method])


def _fit(logits: np.ndarray, labels: np.ndarray, method: str) -> Calibration:
    """Return the calibration of least log loss against Platt's targets (Platt 1999, eq. 4)."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    # With targets of 0 and 1, separable data would drive the slope to infinity.
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # The logits are scaled to order one for the Newton steps.
    spread = max(float(np.abs(logits).max()), 1e-12)
    constant = np.ones_like(logits)
    if method == "beta":
        # Softplus is of order one even if all logits are close to 0, so `size` is at least 1.
        size = max(spread, 1.0)
        design = np.stack([softplus(logits) / size, -softplus(-logits) / size, constant])
        scale, low_scale, offset = _newton(design, targets) / (size, size, 1.0)
        if min(scale, low_scale) >= MIN_SCALE:
            return Calibration(method, float(scale), float(offset), float(low_scale))
        # A slope that is too small or negative would lose or reverse the order of the slices on its
        # side of 0.
        method = "platt"
    design = np.stack([logits / spread, constant])[: 2 if method == "platt" else 1]
    weights = _newton(design, targets)
    scale = float(weights[0] / spread)
    # A slope of 0 or less would lose or reverse the order of slices, and so change the AUROC.
    if scale >= MIN_SCALE:
        return Calibration(method, scale, float(weights[1]) if method == "platt" else 0.0)
    if method == "temperature":
        return Calibration(method, MIN_SCALE, 0.0)
    # The logits carry no information, so every answer is the base rate.
    rate = targets.mean()
    return Calibration(
        method, MIN_SCALE, float(np.log(rate / (1 - rate)) - MIN_SCALE * logits.mean())
    )


def _newton(design: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the weights (F,) of a logistic regression of `targets` (N,) on `design` (F, N)."""
    weights = np.zeros(len(design))
    # The ridge is too small to change a figure, but large enough that a constant feature does not
    # make the matrix singular.
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
        # The step is halved until the loss does not rise, since a full Newton step may overshoot.
        while size > 1e-6 and loss(weights - size * step) > loss(weights):
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return weights
