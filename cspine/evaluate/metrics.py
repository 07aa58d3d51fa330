"""The figures of a set of slices, each with a 95 % interval by bootstrap over patients.

Fracture is the positive class everywhere. The inputs are labels and probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cspine.core.errors import DataError
from cspine.core.labels import FRACTURE, NORMAL
from cspine.decide.study_score import SeriesScore
from cspine.stats import ranking as rk
from cspine.stats.bootstrap import draw_weights, group_codes
from cspine.stats.intervals import Interval, percentile_interval

METRICS = (
    "loss",
    "accuracy",
    "accuracy_at_half",
    "precision",
    "recall",
    "specificity",
    "npv",
    "auroc",
    "auprc",
    "brier",
    "ece",
    "sensitivity_at_95_specificity",
    "specificity_at_95_sensitivity",
)
# As many as in Guo et al. 2017, but with equally many slices each, so that none is empty.
BINS = 15
CLIP = 1e-7  # the least probability inside the log, as in Keras
# Narrower below a millimetre, where a fracture is one to three pixels wide and hard to see.
WIDTH_BANDS_MM = ((0.2, 0.5), (0.5, 0.8), (0.8, 1.0), (1.0, 1.5), (1.5, 3.0))
VISIBLE_MM = 1.0  # the width from which a fracture is called visible


def compute_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    groups: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return every figure of METRICS.

    `loss` is the mean binary cross-entropy (nats), `recall` the sensitivity, `npv` the precision of
    "normal"; `ece` uses 15 bins of equally many slices. Precision, recall, specificity, npv and
    accuracy are at `threshold`, `accuracy_at_half` at 0.5. A figure that does not exist, as with
    only one class, is NaN. A single group has no interval.

    Args:
        labels: int (N,), 1 is fracture.
        probabilities: P(fracture), float (N,), 0..1, without NaN.
        threshold: a slice whose probability is at or above it is called a fracture, 0..1.
        groups: patient of each slice (N,).
        resamples: bootstrap samples behind each interval.
        seed: the seed of the bootstrap.

    Raises:
        DataError: as in `check_scores`.
    """
    labels, probabilities = check_scores(labels, probabilities)
    value = _figures(labels, probabilities, threshold, np.ones((1, len(labels))))
    weights = draw_weights(group_codes(groups, len(labels)), resamples, seed)
    drawn = [_figures(labels, probabilities, threshold, portion) for portion in weights]
    return {
        name: percentile_interval(
            value[name][0], np.concatenate([part[name] for part in drawn] or [np.empty(0)])
        )
        for name in METRICS
    }


def check_scores(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels int64 (N,) and probabilities float64 (N,).

    Raises:
        DataError: they are empty or differ in length, a label is not 0 or 1, or a probability is
            outside 0..1.
    """
    labels = np.asarray(labels, np.int64)
    probabilities = np.asarray(probabilities, np.float64)
    if labels.ndim != 1 or labels.shape != probabilities.shape or len(labels) == 0:
        raise DataError(
            "`labels` and `probabilities` must have the same length, at least 1. "
            f"Received: {labels.shape}, {probabilities.shape}"
        )
    if not np.isin(labels, (NORMAL, FRACTURE)).all():
        raise DataError(f"`labels` must be 0 or 1. Received: {np.unique(labels)[:5].tolist()}")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise DataError("`probabilities` must be from 0 to 1. Received: values outside this range")
    return labels, probabilities


def _figures(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return each figure, (R,), for R sets of weights (R, N)."""
    positive, called = labels == 1, probabilities >= threshold
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    losses = -np.log(np.where(positive, clipped, 1 - clipped))
    ranking = rk.rank(labels, probabilities, weights)
    return {
        "loss": _mean(weights, losses),
        "accuracy": _mean(weights, called == positive),
        "accuracy_at_half": _mean(weights, (probabilities >= 0.5) == positive),
        "precision": _mean(weights, positive, called),
        "recall": _mean(weights, called, positive),
        "specificity": _mean(weights, ~called, ~positive),
        "npv": _mean(weights, ~positive, ~called),
        "auroc": rk.area_under_roc(ranking),
        "auprc": rk.average_precision(ranking),
        "brier": _mean(weights, (probabilities - positive) ** 2),
        "ece": calibration_error(labels, probabilities, weights),
        "sensitivity_at_95_specificity": rk.sensitivity_at_specificity(ranking, 0.95),
        "specificity_at_95_sensitivity": rk.specificity_at_sensitivity(ranking, 0.95),
    }


def _mean(weights: np.ndarray, values: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Return the weighted mean (R,) of those values (N,) that are `among` (N,); NaN for none."""
    # Numerator and denominator are matrix products over all resamples at once.
    among = np.ones(len(values), bool) if among is None else among
    below = weights @ among.astype(np.float64)
    above = weights @ np.where(among, values, 0).astype(np.float64)
    return np.asarray(np.divide(above, below, out=np.full_like(below, np.nan), where=below > 0))


def calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return ECE (R,): |mean probability − share of fractures| over 15 bins of equal weight."""
    order = np.argsort(probabilities, kind="stable")
    ranked = weights[:, order]
    reached = np.cumsum(ranked, axis=1)
    total = reached[:, -1:]
    # (R, N): a slice is in the bin that holds the middle of its weight, so that none is split.
    bins = np.minimum(BINS * (reached - ranked / 2) // total, BINS - 1).astype(np.int64)
    rows = len(weights)
    # Each resample has its own cell numbers, so that one `bincount` serves all resamples.
    cell = (bins + BINS * np.arange(rows)[:, None]).ravel()
    # |Σ w (p − y)| of a bin is its weight × |mean probability − share of fractures|.
    gap = (ranked * (probabilities[order] - labels[order])).ravel()
    gaps = np.bincount(cell, gap, minlength=rows * BINS).reshape(rows, BINS)
    return np.asarray(np.abs(gaps).sum(axis=1) / total[:, 0])


@dataclass(frozen=True)
class WidthBand:
    """AUROC and sensitivity of the fractures of one width, against all normal slices.

    Widths are in millimetres, and `high_mm` is exclusive. `fractures` counts the band's fractured
    slices, `fractured_patients` their patients, and `patients` also those of the normal slices.
    """

    name: str
    low_mm: float
    high_mm: float
    auroc: Interval
    sensitivity: Interval
    fractures: int
    fractured_patients: int
    patients: int


def auroc_by_width(
    labels: np.ndarray,
    probabilities: np.ndarray,
    widths_mm: np.ndarray,
    groups: np.ndarray | None = None,
    threshold: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> list[WidthBand]:
    """Return a WidthBand for each of WIDTH_BANDS_MM, then "≥ 1 mm", then "all".

    `widths_mm` is the fracture's width, float (N,), which is ignored for normal slices. The other
    arguments are those of `compute_metrics`. A band without fractures is left out.
    """
    labels, probabilities = check_scores(labels, probabilities)
    codes, widths = group_codes(groups, len(labels)), np.asarray(widths_mm, np.float64)
    results = []
    for name, low, high in width_bands():
        inside = (widths >= low) & (widths < high) if name != "all" else np.ones(len(widths), bool)
        fracture = (labels == FRACTURE) & inside
        chosen = fracture | (labels == NORMAL)
        if not fracture.any():
            continue
        figures = compute_metrics(
            labels[chosen], probabilities[chosen], threshold, codes[chosen], resamples, seed
        )
        band = WidthBand(
            name=name,
            low_mm=low,
            high_mm=high,
            auroc=figures["auroc"],
            sensitivity=figures["recall"],
            fractures=int(fracture.sum()),
            fractured_patients=len(np.unique(codes[fracture])),
            patients=len(np.unique(codes[chosen])),
        )
        results.append(band)
    return results


def width_bands() -> list[tuple[str, float, float]]:
    """Return (name, low, high) of the bands of `auroc_by_width`, in mm, `high` exclusive.

    The last of WIDTH_BANDS_MM includes its upper limit.
    """
    bands = [(f"{low:g}–{high:g} mm", low, high) for low, high in WIDTH_BANDS_MM]
    name, low, high = bands[-1]
    bands[-1] = (name, low, np.nextafter(high, np.inf))
    return [*bands, (f"≥ {VISIBLE_MM:g} mm", VISIBLE_MM, np.inf), ("all", 0.0, np.inf)]


def compute_patient_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    series: SeriesScore,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the figures of METRICS by patient, from the series score at its own threshold.

    A patient is fractured if any of its labels is. `probabilities` (N,) is NaN for slices that do
    not count. Patients without a score are left out, and if none has a score, the result is empty.
    """
    labels, scores = patient_scores(labels, probabilities, groups, series)
    if len(labels) == 0:
        return {}
    # Each row is a patient, so the bootstrap resamples rows and needs no groups.
    return compute_metrics(labels, scores, series.threshold, None, resamples, seed)


def describe_patients(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    series: SeriesScore,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the figures by patient and the number of patients behind them, as JSON values.

    `patients` are the figures of `compute_patient_metrics`. `patients_scored` counts the patients
    with a series score: at least one of their slices counts, and no more than the score covers.
    """
    found = compute_patient_metrics(labels, probabilities, groups, series, resamples, seed)
    return {
        "patients": {name: interval.to_dict() for name, interval in found.items()},
        "patients_scored": len(patient_scores(labels, probabilities, groups, series)[0]),
    }


def patient_scores(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, series: SeriesScore
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels int64 (G,) and series scores float64 (G,) of the patients that have one."""
    names, scores = series.apply_groups(probabilities, groups)
    codes = np.searchsorted(names, np.asarray(groups))
    truths = np.zeros(len(names), np.int64)
    np.maximum.at(truths, codes, np.asarray(labels, np.int64))
    known = np.isfinite(scores)
    return truths[known], scores[known]


def paired_bootstrap_difference(
    labels: np.ndarray,
    probabilities_a: np.ndarray,
    probabilities_b: np.ndarray,
    groups: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return AUROC(a) − AUROC(b) on the same slices, resampled together by group.

    If `a` is the exact and `b` the quantised model, the value is the AUROC that quantisation loses,
    and `high` is its upper bound.
    """
    labels, first = check_scores(labels, probabilities_a)
    labels, second = check_scores(labels, probabilities_b)

    # Both models get the same weights, so that the difficulty of a resample cancels out.
    def difference(weights: np.ndarray) -> np.ndarray:
        areas = [rk.area_under_roc(rk.rank(labels, p, weights)) for p in (first, second)]
        return np.asarray(areas[0] - areas[1])

    value = difference(np.ones((1, len(labels))))[0]
    weights = draw_weights(group_codes(groups, len(labels)), resamples, seed)
    drawn = [difference(portion) for portion in weights]
    return percentile_interval(value, np.concatenate(drawn or [np.empty(0)]))
