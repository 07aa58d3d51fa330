"""From the slices of one study to one calibrated probability for the patient.

The rule: take the logits of the `top` highest slice probabilities, average them, and calibrate that
mean as `sigmoid(scale · mean + offset)` on studies with known labels. A fracture shows in a few
slices, so the mean over all would drown it; the single highest slice is noisy and grows with the
number of slices; `top` is chosen between. It does not know slices' order or distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cspine.core.errors import DataError
from cspine.decide.calibration import MAX_LOGIT, Calibration, fit_calibration
from cspine.decide.threshold import Threshold, choose_threshold

# A few: one fracture crosses a few slices, and more would only dilute it.
TOPS = (1, 2, 3, 5)


@dataclass(frozen=True)
class SeriesScore:
    """The fitted rule of this module and the study's own threshold (0..1)."""

    top: int
    scale: float
    offset: float
    threshold: float

    def apply(self, probabilities: np.ndarray) -> float | None:
        """Return the study's calibrated P(fracture), or None where no slice has a probability.

        `probabilities` are calibrated slice probabilities of one study, float (N,), 0..1; NaN is
        a slice without one (no vertebra, or not in distribution) and is left out.
        """
        known = np.asarray(probabilities, np.float64)
        known = known[np.isfinite(known)]
        if len(known) == 0:
            return None
        mean = top_mean_logit(known, self.top)
        # Platt and no other: a few dozen studies cannot carry a third parameter.
        return float(Calibration("platt", self.scale, self.offset).apply(np.array(mean)))

    def apply_groups(
        self, probabilities: np.ndarray, groups: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (groups (G,) sorted, probability (G,) with NaN for none) for slices (N,)."""
        groups = np.asarray(groups)
        names = np.unique(groups)
        scores = [self.apply(np.asarray(probabilities)[groups == name]) for name in names]
        return names, np.array([np.nan if score is None else score for score in scores])


def top_mean_logit(probabilities: np.ndarray, top: int) -> float:
    """Return the mean logit of the `top` highest probabilities (all, where there are fewer)."""
    # A probability of exactly 0 or 1 would have an infinite logit.
    limit = 1.0 / (1.0 + np.exp(MAX_LOGIT))
    highest = np.clip(np.sort(probabilities)[::-1][:top], limit, 1.0 - 1e-13)
    return float(np.mean(np.log(highest) - np.log1p(-highest)))


def fit_series(
    probabilities: np.ndarray,
    groups: np.ndarray,
    labels: np.ndarray,
    method: str = "sensitivity",
    target: float = 0.95,
) -> SeriesScore:
    """Fit the rule on held-out slices; a study is fractured where any of its labels is 1.

    Args:
        probabilities: calibrated slice probabilities, float (N,), 0..1, NaN for none.
        groups: study (or patient) of each slice (N,).
        labels: int (N,), 1 is fracture: a slice's own label, or its study's.
        method: how the study's threshold is chosen, as in `choose_threshold`.
        target: the sensitivity it is chosen for.

    Raises:
        DataError: fewer than one fractured and one unfractured study.
    """
    groups, labels = np.asarray(groups), np.asarray(labels, np.int64)
    probabilities = np.asarray(probabilities, np.float64)
    # Slices above or below the neck have no probability, and no say.
    known = np.isfinite(probabilities)
    studies = [
        (np.sort(probabilities[mine & known])[::-1], int(labels[mine].max()))
        for mine in (groups == name for name in np.unique(groups))
        if (mine & known).any()
    ]
    truths = np.array([truth for _, truth in studies])
    if len(np.unique(truths)) < 2:
        raise DataError("`groups` must hold fractured and unfractured studies. Received: one kind")
    fits = [_fit_top(top, studies, truths) for top in TOPS]
    # By log loss, which a rank alone cannot better; the smallest top wins a tie.
    top, calibration, scores, _ = min(fits, key=lambda fit: fit[3])
    threshold: Threshold = choose_threshold(scores, truths, method, target)
    return SeriesScore(top, calibration.scale, calibration.offset, threshold.value)


def _fit_top(
    top: int, studies: list[tuple[np.ndarray, int]], truths: np.ndarray
) -> tuple[int, Calibration, np.ndarray, float]:
    """Return (top, calibration, scores (G,), log loss) of the rule with this `top`."""
    means = np.array([top_mean_logit(slices, top) for slices, _ in studies])
    calibration = fit_calibration(means, truths, method="platt")
    scores = calibration.apply(means)
    # Finite: MAX_LOGIT keeps every score away from 0 and 1.
    loss = -np.log(np.where(truths == 1, scores, 1 - scores)).mean()
    return top, calibration, scores, float(loss)
