"""The series score: one calibrated probability for a patient from the slices of a study.

The rule: of each of the `top` highest slice logits take what a normal study of as many slices would
show at its rank, average what is left, and calibrate that excess as
`sigmoid(scale · excess + offset)` on studies with known labels. A fracture shows in a few slices,
so the mean over all would dilute it, and the single highest slice is noisy; `top` is a compromise.

The highest of many normal slices is high without any fracture, and training draws a few slices of a
study where serving gets all: of n normal slices the i-th highest is expected at the quantile
1 − i / (n + 1) of held-out normal slices. That takes slices as independent. Neighbours are alike,
so the highest of n is lower than that, and a whole study is called fracture too seldom rather than
too often; two fractured slices are less conspicuous among 300 than among 8. The order of slices
and their distances are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cspine.core.errors import DataError
from cspine.core.labels import NORMAL
from cspine.decide.calibration import MAX_LOGIT, Calibration, fit_calibration
from cspine.decide.threshold import Threshold, choose_threshold

# A few: one fracture crosses a few slices, and more would only dilute it.
TOPS = (1, 2, 3, 5)
# So many that the steps between them are far below what slices differ by.
QUANTILES = 65


@dataclass(frozen=True)
class NormalLogits:
    """Quantiles of the logits of held-out normal slices.

    `quantiles`, at least two, rising, are of tails (the share of slices above) that fall
    geometrically from 1 to 1 / (slices + 1), the finest that `slices` slices can tell.
    """

    quantiles: tuple[float, ...]
    slices: int

    def expected(self, count: int, top: int) -> np.ndarray:
        """Return the logits (min(top, count),) expected of the highest of `count` normal slices.

        `count` is from 1 to `slices`; the highest comes first.
        """
        ranks = np.arange(1, min(top, count) + 1)
        # Between two quantiles by the logarithm of the tail, in which an exponential tail is a
        # straight line.
        finest = -np.log(self.slices + 1)
        depth = np.log(ranks / (count + 1)) / finest  # 0..1
        steps = np.linspace(0, 1, len(self.quantiles))
        return np.asarray(np.interp(depth, steps, self.quantiles))


@dataclass(frozen=True)
class SeriesScore:
    """The fitted rule of this module and the study's own threshold (0..1)."""

    top: int
    scale: float
    offset: float
    threshold: float
    normal: NormalLogits

    def covers(self, count: int) -> bool:
        """Return whether the rule holds for a study of `count` slices, 1 or more.

        How high the highest of more slices would be cannot be derived from fewer normal ones.
        """
        return count <= self.normal.slices

    def apply(self, probabilities: np.ndarray) -> float | None:
        """Return the study's calibrated P(fracture); None without a slice, or where not `covers`.

        `probabilities` are calibrated slice probabilities of one study, float (N,), 0..1; NaN is
        a slice without one (no vertebra, or not in distribution) and is left out.
        """
        known = np.asarray(probabilities, np.float64)
        known = known[np.isfinite(known)]
        if len(known) == 0 or not self.covers(len(known)):
            return None
        excess = top_excess(known, self.top, self.normal)
        # Platt and no other: a few dozen studies cannot carry a third parameter.
        return float(Calibration("platt", self.scale, self.offset).apply(np.array(excess)))

    def apply_groups(
        self, probabilities: np.ndarray, groups: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (groups (G,) sorted, probability (G,) with NaN for none) for slices (N,)."""
        groups = np.asarray(groups)
        names = np.unique(groups)
        scores = [self.apply(np.asarray(probabilities)[groups == name]) for name in names]
        return names, np.array([np.nan if score is None else score for score in scores])


def top_excess(probabilities: np.ndarray, top: int, normal: NormalLogits) -> float:
    """Return by how much the `top` highest logits (all, where fewer) exceed a normal study's.

    It is the mean over them. `probabilities` (N,), 0..1.
    """
    highest = _logits(np.sort(probabilities)[::-1][:top])
    return float(np.mean(highest - normal.expected(len(probabilities), top)))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    # A probability of exactly 0 or 1 would have an infinite logit.
    limit = 1.0 / (1.0 + np.exp(MAX_LOGIT))
    clipped = np.clip(probabilities, limit, 1.0 - 1e-13)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def fit_normal(probabilities: np.ndarray) -> NormalLogits:
    """Return how high the logits of held-out normal slices (N,), N ≥ 1, are."""
    count = len(probabilities)
    tails = np.exp(-np.log(count + 1) * np.linspace(0, 1, QUANTILES))
    # "weibull" puts the i-th lowest of N at i / (N + 1), as the rule itself does.
    found = np.quantile(_logits(probabilities), 1 - tails, method="weibull")
    # Rounded for the card, by far less than one more slice would change.
    return NormalLogits(tuple(np.round(found, 4).tolist()), count)


def fit_series(
    probabilities: np.ndarray,
    groups: np.ndarray,
    labels: np.ndarray,
    method: str = "sensitivity",
    target: float = 0.95,
) -> SeriesScore:
    """Fit the rule on held-out slices; a study is fractured where any of its labels is 1.

    Args:
        probabilities: calibrated slice probabilities, float (N,), 0..1; NaN for none (no vertebra,
            or not in distribution), as in `SeriesScore.apply`.
        groups: study (or patient) of each slice (N,).
        labels: int (N,), 1 is fracture: a slice's own label, or its study's. All others count as
            normal slices.
        method: how the study's threshold is chosen, as in `choose_threshold`.
        target: the sensitivity it is chosen for.

    Raises:
        DataError: fewer than one fractured and one unfractured study.
    """
    groups, labels = np.asarray(groups), np.asarray(labels, np.int64)
    probabilities = np.asarray(probabilities, np.float64)
    # Slices out of distribution or without a vertebra do not count.
    known = np.isfinite(probabilities)
    studies = [
        (np.sort(probabilities[mine & known])[::-1], int(labels[mine].max()))
        for mine in (groups == name for name in np.unique(groups))
        if (mine & known).any()
    ]
    truths = np.array([truth for _, truth in studies])
    if len(np.unique(truths)) < 2:
        raise DataError("`groups` must hold fractured and unfractured studies. Received: one kind")
    normal = fit_normal(probabilities[known & (labels == NORMAL)])
    fits = [_fit_top(top, studies, truths, normal) for top in TOPS]
    # By log loss, which a rank alone cannot better; the smallest top wins a tie.
    top, calibration, scores, _ = min(fits, key=lambda fit: fit[3])
    threshold: Threshold = choose_threshold(scores, truths, method, target)
    return SeriesScore(
        top=top,
        scale=calibration.scale,
        offset=calibration.offset,
        threshold=threshold.value,
        normal=normal,
    )


def _fit_top(
    top: int, studies: list[tuple[np.ndarray, int]], truths: np.ndarray, normal: NormalLogits
) -> tuple[int, Calibration, np.ndarray, float]:
    """Return (top, calibration, scores (G,), log loss) of the rule with this `top`."""
    excesses = np.array([top_excess(slices, top, normal) for slices, _ in studies])
    calibration = fit_calibration(excesses, truths, method="platt")
    scores = calibration.apply(excesses)
    # Finite: MAX_LOGIT keeps every score away from 0 and 1.
    loss = -np.log(np.where(truths == 1, scores, 1 - scores)).mean()
    return top, calibration, scores, float(loss)
