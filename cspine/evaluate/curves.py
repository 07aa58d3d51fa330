"""The points of the report's curves, with bands by bootstrap over patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cspine.evaluate.metrics import BINS, check_scores
from cspine.stats import ranking as rk
from cspine.stats.bootstrap import draw_weights, group_codes
from cspine.stats.intervals import wilson_interval

# All resamples use the same grid, so that the band can be computed at each point.
GRID = np.linspace(0.0, 1.0, 201)


@dataclass(frozen=True)
class Curve:
    """A curve (P,) and its 95 % band (P,); the band is NaN if there is none. All in 0..1."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Reliability:
    """Bins of equally many slices (B,): mean probability, share of fractures, interval, count."""

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray


def roc_curve(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray | None = None,
    resamples: int = 400,
    seed: int = 0,
) -> Curve:
    """Return sensitivity over the false-positive rate, at 201 evenly spaced rates.

    Arguments are those of `compute_metrics`; both classes must occur.
    """

    def read(ranking: rk.Ranking, row: int) -> np.ndarray:
        return _steps_up(ranking.false_positive_rate[row], ranking.sensitivity[row])

    return _banded(labels, probabilities, groups, resamples, seed, read)


def precision_recall_curve(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray | None = None,
    resamples: int = 400,
    seed: int = 0,
) -> Curve:
    """Return precision over recall, at 201 evenly spaced recalls.

    At each recall it is the precision at the highest threshold that reaches that recall.
    Arguments are those of `compute_metrics`; both classes must occur.
    """

    def read(ranking: rk.Ranking, row: int) -> np.ndarray:
        called = ranking.hits[row] + ranking.alarms[row]
        precision = np.divide(
            ranking.hits[row], called, out=np.full_like(called, np.nan), where=called > 0
        )
        recall = ranking.sensitivity[row]
        # At recall 0 the first step of the curve is used, because precision is undefined if no
        # slice is called a fracture.
        at = np.searchsorted(recall, np.maximum(GRID, 1e-9) - 1e-12)
        return np.asarray(precision[np.minimum(at, len(recall) - 1)])

    return _banded(labels, probabilities, groups, resamples, seed, read)


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> Reliability:
    """Return 15 bins (fewer if there are fewer slices) of equally many slices, with intervals."""
    labels, probabilities = check_scores(labels, probabilities)
    order = np.argsort(probabilities, kind="stable")
    # Of bins of equal width, some would be empty.
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    # Wilson, because the normal approximation is poor for few slices and for shares near 0 or 1.
    shares = [wilson_interval(int(labels[part].sum()), len(part)) for part in bins]
    return Reliability(
        predicted=np.array([probabilities[part].mean() for part in bins]),
        observed=np.array([share.value for share in shares]),
        low=np.array([share.low for share in shares]),
        high=np.array([share.high for share in shares]),
        counts=np.array([len(part) for part in bins]),
    )


def confusion(labels: np.ndarray, called: np.ndarray) -> np.ndarray:
    """Return int (2, 2): truth by row, answer by column, both in the order of CLASS_NAMES."""
    cells = 2 * np.asarray(labels, np.int64) + np.asarray(called, np.int64)
    return np.bincount(cells, minlength=4).reshape(2, 2)


def _steps_up(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the curve's height at each rate of GRID, and the top at a vertical rise."""
    # `np.interp` needs increasing rates, so equal ones are spread by 1e-12. All are then shifted
    # down, so that reading exactly at a rate gives the top of a vertical rise.
    apart = x + 1e-12 * np.arange(len(x)) - 1e-12 * len(x)
    return np.asarray(np.interp(GRID, apart, y))


def _banded(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray | None,
    resamples: int,
    seed: int,
    read: Callable[[rk.Ranking, int], np.ndarray],
) -> Curve:
    """Return the curve that `read` gives for all slices, with a band from the resamples."""
    labels, probabilities = check_scores(labels, probabilities)
    value = read(rk.rank(labels, probabilities, np.ones((1, len(labels)))), 0)
    drawn = []
    for weights in draw_weights(group_codes(groups, len(labels)), resamples, seed):
        # A resample that holds only one class has no curve.
        both = (weights @ labels > 0) & (weights @ (1 - labels) > 0)
        ranking = rk.rank(labels, probabilities, weights[both])
        drawn += [read(ranking, row) for row in range(int(both.sum()))]
    none = np.full_like(value, np.nan)
    if len(drawn) < 2:
        return Curve(GRID, value, none, none)
    # (resamples, 201): a pointwise band, narrower than one that would hold the whole curve.
    low, high = np.nanquantile(np.array(drawn), [0.025, 0.975], axis=0)
    return Curve(GRID, value, low, high)
