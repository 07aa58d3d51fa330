"""Scores that compare models: errors at each model's threshold, means over models, coverage.

The functions need only the models' answers and the true labels, no model, image or file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import expit, logit

from cspine.core.labels import CLASS_NAMES
from cspine.decide.conformal import fit_conformal
from cspine.decide.policy import DecisionPolicy, Decisions
from cspine.evaluate.metrics import VISIBLE_MM, compute_metrics, width_bands
from cspine.evaluate.report.card_text import calibrated_share
from cspine.stats import ranking as rk
from cspine.stats.bootstrap import draw_weights, group_codes
from cspine.stats.intervals import Interval, percentile_interval

RESPLITS = 20


class Truth(Protocol):
    """The truth about N slices."""

    @property
    def labels(self) -> np.ndarray:
        """int (N,), 1 for a fracture."""
        ...

    @property
    def widths_mm(self) -> np.ndarray:
        """float (N,), the fracture's width; NaN if there is no fracture or its width is unknown."""
        ...

    @property
    def groups(self) -> np.ndarray:
        """str (N,), the patient or series."""
        ...


@dataclass(frozen=True)
class Answers:
    """A model's decision policy and its decisions for N slices."""

    policy: DecisionPolicy
    decisions: Decisions

    @property
    def called(self) -> np.ndarray:
        """bool (N,): the probability is on the fracture side of the threshold, abstention off."""
        return self.policy.threshold.apply(self.decisions.probability)


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], groups: np.ndarray, resamples: int
) -> Interval:
    """Return a statistic with its interval by bootstrap over groups (N,).

    `statistic` maps weights (R, N) to values (R,), one per resample.
    """
    value = float(statistic(np.ones((1, len(groups))))[0])
    # The seed is fixed, so that all statistics of the same slices use the same resamples.
    weights = draw_weights(group_codes(groups, len(groups)), resamples, 0)
    drawn = [statistic(portion) for portion in weights]
    return percentile_interval(value, np.concatenate(drawn or [np.empty(0)]))


def error_of(called: np.ndarray, truth: Truth, weights: np.ndarray) -> np.ndarray:
    """Return 1 − balanced accuracy (R,) under weights (R, N).

    It compares visible fractures with all normal slices.
    """
    # A fracture of unknown width counts as visible.
    positive = (truth.labels == 1) & ~(truth.widths_mm < VISIBLE_MM)
    negative = truth.labels == 0
    # The error of a resample that lacks one of the classes is NaN.
    with np.errstate(invalid="ignore"):
        misses = (weights @ (positive & ~called)) / (weights @ positive.astype(float))
        alarms = (weights @ (negative & called)) / (weights @ negative.astype(float))
    return np.asarray((misses + alarms) / 2)


def balanced_error(answers: Answers, truth: Truth, resamples: int) -> Interval:
    """Return 1 − balanced accuracy of one model at its threshold."""
    return mean_balanced_error([answers], truth, resamples)


def mean_balanced_error(models: Sequence[Answers], truth: Truth, resamples: int) -> Interval:
    """Return the mean over models of 1 − balanced accuracy, each at its own threshold."""

    def mean(weights: np.ndarray) -> np.ndarray:
        return np.mean([error_of(model.called, truth, weights) for model in models], axis=0)

    return bootstrap(mean, truth.groups, resamples)


def mean_auroc_by_width(
    probabilities: Sequence[np.ndarray], truth: Truth, resamples: int
) -> dict[str, Interval]:
    """Return by width band the mean of the models' AUROCs, fractures against all normal slices.

    `probabilities` holds (N,) for each model.
    """
    found = {}
    for name, low, high in width_bands():
        fractured = (truth.labels == 1) & (truth.widths_mm >= low) & (truth.widths_mm < high)
        if not fractured.any():
            continue
        chosen = np.flatnonzero(fractured | (truth.labels == 0))

        def mean(weights: np.ndarray, chosen: np.ndarray = chosen) -> np.ndarray:
            areas = [
                rk.area_under_roc(rk.rank(truth.labels[chosen], p[chosen], weights))
                for p in probabilities
            ]
            return np.asarray(np.mean(areas, axis=0))

        found[name] = bootstrap(mean, truth.groups[chosen], resamples)
    return found


def ece_at_share(
    card: Mapping[str, Any], answers: Answers, truth: Truth, resamples: int
) -> Interval:
    """Return the expected calibration error after adapting probabilities to the share of fractures.

    The calibration was fitted on a set with another share. Each probability is adapted to this
    set's share by Bayes' rule (Saerens et al. 2002, equation 2.4).
    """
    supposed, share = calibrated_share(card), truth.labels.mean()
    if supposed is None:
        raise SystemExit("The card must say how many slices calibration was fitted on.")
    shift = logit(share) - logit(supposed)
    moved = expit(logit(answers.decisions.probability) + shift)
    cut = answers.policy.threshold.value
    return compute_metrics(truth.labels, moved, cut, truth.groups, resamples)["ece"]


def conformal_coverage(probability: np.ndarray, truth: Truth, alpha: float) -> dict[str, Any]:
    """Return how often conformal sets fitted on half of the patients hold the other half's truth.

    Over 20 random splits, for each class: the mean, lowest and highest coverage of its slices, and
    the smallest number of patients with such a slice in a half.
    """
    codes = group_codes(truth.groups, len(truth.groups))
    rng = np.random.default_rng(0)
    shares: list[list[float]] = []
    patients: list[list[int]] = []
    for _ in range(RESPLITS):
        # bool (N,). The patients are split, not the slices: a patient in both halves would be no
        # test.
        fitted = (rng.permutation(codes.max() + 1) % 2 == 0)[codes]
        sets = fit_conformal(probability[fitted], truth.labels[fitted], alpha).sets(probability)
        is_class = [truth.labels == label for label in range(len(CLASS_NAMES))]
        shares.append([float(sets[~fitted & mine, k].mean()) for k, mine in enumerate(is_class)])
        patients += [
            [len(np.unique(codes[half & mine])) for mine in is_class] for half in (fitted, ~fitted)
        ]
    found: dict[str, Any] = {"nominal": 1 - alpha, "resplits": RESPLITS}
    for k, name in enumerate(CLASS_NAMES):
        values = [row[k] for row in shares]
        found[name] = {
            "mean_coverage": float(np.mean(values)),
            "lowest": min(values),
            "highest": max(values),
            "fewest_patients_a_half": min(row[k] for row in patients),
        }
    return found
