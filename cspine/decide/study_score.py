"""The series score: one calibrated probability for a patient from the slices of a study.

The rule takes the `top` highest slice logits. From each it subtracts the logit that a normal study
of equally many slices is expected to have at that rank. The mean of the differences is the excess,
which is calibrated as `sigmoid(scale · excess + offset)` on studies with known labels. A fracture
shows in a few slices, so the mean over all would dilute it, and the single highest slice is noisy;
`top` is a compromise.

The expected logit is subtracted because the highest of many normal slices is high without any
fracture, and training uses a few slices of a study while serving gets all. Of n normal slices, the
i-th highest is expected at the quantile 1 − i / (n + 1) of held-out normal slices. That assumes
independent slices. Neighbouring slices are alike, so the highest of n is lower than expected, and a
complete study is called fracture too seldom rather than too often. Two fractured slices are less
conspicuous among 300 slices than among 8. The order of slices and their distances are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cspine.core.errors import DataError
from cspine.core.labels import NORMAL
from cspine.decide.calibration import MAX_LOGIT, Calibration, fit_calibration
from cspine.decide.threshold import Threshold, choose_threshold

# Candidates for `top`. A fracture crosses only a few slices, and more would dilute it.
TOPS = (1, 2, 3, 5)
# Enough that neighbouring quantiles differ far less than the logits of two slices do.
QUANTILES = 65


@dataclass(frozen=True)
class NormalLogits:
    """Quantiles of the logits of held-out normal slices.

    `quantiles` holds at least two logits in non-decreasing order. The tail of a quantile is the
    share of the slices above it. The tails fall geometrically from 1 to 1 / (slices + 1), the
    smallest tail that `slices` slices can resolve.
    """

    quantiles: tuple[float, ...]
    slices: int

    def expected(self, count: int, top: int) -> np.ndarray:
        """Return the `top` highest logits expected of `count` normal slices, (min(top, count),).

        `count` is from 1 to `slices`; the highest logit comes first.
        """
        ranks = np.arange(1, min(top, count) + 1)
        # Interpolated over the logarithm of the tail: if the logits' distribution falls off
        # exponentially, they are linear in it.
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

        If the study has more slices than there were held-out normal slices, its expected highest
        logit is unknown.
        """
        return count <= self.normal.slices

    def apply(self, probabilities: np.ndarray) -> float | None:
        """Return the study's calibrated P(fracture); None without a slice, or if `covers` is False.

        `probabilities` are calibrated slice probabilities of one study, float (N,), 0..1; NaN
        means a slice without a probability (no vertebra, or not in distribution); it is left out.
        """
        known = np.asarray(probabilities, np.float64)
        known = known[np.isfinite(known)]
        if len(known) == 0 or not self.covers(len(known)):
            return None
        excess = top_excess(known, self.top, self.normal)
        # Always Platt, since a few dozen studies are too few to fit a third parameter.
        return float(Calibration("platt", self.scale, self.offset).apply(np.array(excess)))

    def apply_groups(
        self, probabilities: np.ndarray, groups: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the sorted groups (G,) of slices (N,), and their probabilities (G,) or NaN."""
        groups = np.asarray(groups)
        names = np.unique(groups)
        scores = [self.apply(np.asarray(probabilities)[groups == name]) for name in names]
        return names, np.array([np.nan if score is None else score for score in scores])


def top_excess(probabilities: np.ndarray, top: int, normal: NormalLogits) -> float:
    """Return by how much the `top` highest logits exceed those of a normal study, on average.

    With fewer than `top` slices, all of them count. `probabilities` is float (N,), 0..1.
    """
    highest = _logits(np.sort(probabilities)[::-1][:top])
    return float(np.mean(highest - normal.expected(len(probabilities), top)))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    # A probability of exactly 0 or 1 would have an infinite logit.
    limit = 1.0 / (1.0 + np.exp(MAX_LOGIT))
    clipped = np.clip(probabilities, limit, 1.0 - 1e-13)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def fit_normal(probabilities: np.ndarray) -> NormalLogits:
    """Return the quantiles of the logits of held-out normal slices (N,), N ≥ 1."""
    count = len(probabilities)
    tails = np.exp(-np.log(count + 1) * np.linspace(0, 1, QUANTILES))
    # "weibull" puts the i-th lowest of N at the quantile i / (N + 1), as the rule does.
    found = np.quantile(_logits(probabilities), 1 - tails, method="weibull")
    # Rounded for the card; one more slice would change the quantiles far more than the rounding.
    return NormalLogits(tuple(np.round(found, 4).tolist()), count)


def fit_series(
    probabilities: np.ndarray,
    groups: np.ndarray,
    labels: np.ndarray,
    method: str = "sensitivity",
    target: float = 0.95,
) -> SeriesScore:
    """Fit the rule on held-out slices; a study is fractured if any of its labels is 1.

    Args:
        probabilities: calibrated slice probabilities, float (N,), 0..1; NaN for slices
            without one (no vertebra, or not in distribution), as in `SeriesScore.apply`.
        groups: study (or patient) of each slice (N,).
        labels: int (N,), the label of each slice or of its study: 1 is fracture, 0 a normal slice.
        method: how the study's threshold is chosen, as in `choose_threshold`.
        target: the sensitivity for which the threshold is chosen.

    Raises:
        DataError: there is no fractured study, or no unfractured one.
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
    # Chosen by log loss; the smallest `top` wins a tie.
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
    # The loss is finite, because MAX_LOGIT keeps every score away from 0 and 1.
    loss = -np.log(np.where(truths == 1, scores, 1 - scores)).mean()
    return top, calibration, scores, float(loss)
