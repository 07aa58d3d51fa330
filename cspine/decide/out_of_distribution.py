"""Out-of-distribution detection: an embedding's distance from the nearest k-means centre of the
training embeddings (Lloyd 1982).

Each unit is first scaled by its spread, after a logarithm if the units are rectified means, which
are skewed and of very different size. There are several centres, since the embeddings of one class
and level are far from those of another, with nothing between them: one Gaussian of the same units,
a Mahalanobis distance, accepted more unrelated pictures
(`experiments/model/out_of_distribution.py` measures it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cspine.core.errors import DataError

MAX_CENTRES = 64  # that a model file may hold
# With fewer images a centre it would coincide with one of them.
IMAGES_A_CENTRE = 4
ROUNDS = 20
# Without a floor a unit that is almost always 0 would dominate by its logarithm.
LOG_FLOOR = 0.1  # of a unit's mean, added before the logarithm
# Of the median spread: a unit that is constant must not divide by zero.
SPREAD_FLOOR = 0.02


@dataclass(frozen=True)
class InDistribution:
    """Typical embeddings, and the score above which an image is out of distribution.

    `centres` float32 (K, D), K ≤ 64, on the units' own scales; `threshold` is the score that the
    share `quantile` of held-out images does not exceed. `gains` float32 (D,) > 0 multiply the
    units, or their logarithms if there are `floors` too, float32 (D,) > 0, added before it.
    """

    centres: np.ndarray
    threshold: float
    quantile: float
    gains: np.ndarray
    floors: np.ndarray | None = None

    @cached_property
    def _centres64(self) -> np.ndarray:
        """The centres in float64, converted once and not for each image."""
        return self.centres.astype(np.float64)

    @property
    def scaling(self) -> str:
        """`log` or `linear`: what is done to the units first."""
        return "linear" if self.floors is None else "log"

    def scale(self, embeddings: np.ndarray) -> np.ndarray:
        """Return float64 (N, D): the embeddings on the units' own scales."""
        scaled = _take_log(np.asarray(embeddings, np.float64), self.floors)
        return np.asarray(scaled * self.gains)

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Return float64 (N,) ≥ 0 for embeddings (N, D): squared distance to the nearest centre,
        over D: the mean over units of a squared difference in spreads."""
        distances = _squared_distances(self.scale(embeddings), self._centres64)
        return np.asarray(distances.min(axis=1) / self.centres.shape[1])

    def accepts(self, embeddings: np.ndarray) -> np.ndarray:
        """Return bool (N,): the embedding is finite and its score at most the threshold."""
        embeddings = np.asarray(embeddings, np.float64)
        finite = np.isfinite(embeddings).all(axis=1)
        # Zeros replace what is not finite, so that the sums raise no warning; it is refused anyway.
        score = self.score(np.where(finite[:, None], embeddings, 0.0))
        return np.asarray(finite & (score <= self.threshold))

    def with_threshold(self, scores: np.ndarray) -> InDistribution:
        """Return the same centres with the threshold that `quantile` of `scores` do not exceed.

        `scores` (M,) are of images that were not trained on, by these centres or by those of other
        networks that were trained on fewer patients of the same kind.

        Raises:
            DataError: none, or not finite.
        """
        scores = np.asarray(scores, np.float64)
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise DataError(f"`scores` must be finite, (M,), M ≥ 1. Received: {scores.shape}")
        # "higher" gives an observed score, so that at least the share asked for is accepted.
        threshold = float(np.quantile(scores, self.quantile, method="higher"))
        return replace(self, threshold=threshold)


def fit_distance(
    embeddings: np.ndarray, quantile: float = 0.995, held_out: np.ndarray | None = None
) -> InDistribution:
    """Fit scales and centres on training embeddings, the threshold on held-out ones.

    Args:
        embeddings: float (N, D) of training, N ≥ 2.
        quantile: share of the held-out images to accept, above 0 and at most 1.
        held_out: float (M, D), embeddings that were not trained on; without it the threshold comes
            from `embeddings`, which is too tight for new patients.

    Raises:
        DataError: too few, non-finite or unmatched embeddings, or `quantile` out of range.
    """
    embeddings = _check(embeddings, "embeddings", least=2)
    known = embeddings if held_out is None else _check(held_out, "held_out", least=1)
    if not 0 < quantile <= 1:
        raise DataError(f"`quantile` must be above 0 and at most 1. Received: {quantile}")
    if known.shape[1] != embeddings.shape[1]:
        raise DataError(f"`held_out` must have D = {embeddings.shape[1]}. Received: {known.shape}")
    # Rounded to float32 before the threshold is taken: serving reads exactly these numbers.
    floors = _log_floors(embeddings)
    scaled = _take_log(embeddings, floors)
    gains = _unit_gains(scaled)
    centres = _find_centres(scaled * gains).astype(np.float32)
    fitted = InDistribution(
        centres=centres, threshold=np.inf, quantile=quantile, gains=gains, floors=floors
    )
    return fitted.with_threshold(fitted.score(known))


def _check(embeddings: np.ndarray, name: str, least: int) -> np.ndarray:
    embeddings = np.asarray(embeddings, np.float64)
    if embeddings.ndim != 2 or len(embeddings) < least or not np.isfinite(embeddings).all():
        raise DataError(
            f"`{name}` must be finite, (N, D) with N ≥ {least}. Received: {embeddings.shape}"
        )
    return embeddings


def _take_log(embeddings: np.ndarray, floors: np.ndarray | None) -> np.ndarray:
    """Return the logarithms of units (N, D) over their floors, the units themselves without any."""
    if floors is None:
        return embeddings
    # A unit that was never negative in training may be so elsewhere: clipped, its logarithm exists.
    return np.asarray(np.log(np.maximum(embeddings, 0.0) + floors))


def _log_floors(embeddings: np.ndarray) -> np.ndarray | None:
    """Return what to add before the logarithm (D,), None where units are not rectified."""
    if embeddings.min() < 0:
        return None
    means = embeddings.mean(axis=0)
    # A unit that is always 0 has no scale of its own.
    least = max(1e-3 * float(means.mean()), 1e-12)
    return np.asarray(np.maximum(LOG_FLOOR * means, least), np.float32)


def _unit_gains(scaled: np.ndarray) -> np.ndarray:
    """Return one over each unit's spread (D,)."""
    spread = scaled.std(axis=0)
    least = max(SPREAD_FLOOR * float(np.median(spread)), 1e-6)
    return np.asarray(1.0 / np.maximum(spread, least), np.float32)


def _find_centres(scaled: np.ndarray) -> np.ndarray:
    """Return the centres (K, D) of k-means among points (N, D), the same ones each time."""
    count = min(MAX_CENTRES, max(1, len(scaled) // IMAGES_A_CENTRE))
    centres = scaled[np.random.default_rng(0).choice(len(scaled), count, replace=False)]
    for _ in range(ROUNDS):
        nearest = _squared_distances(scaled, centres).argmin(axis=1)
        members = np.eye(count)[nearest]  # (N, K)
        sizes = members.sum(axis=0)
        # A centre that lost all its points stays where it is.
        has_any = sizes > 0
        centres[has_any] = (members.T @ scaled)[has_any] / sizes[has_any, None]
    return centres


def _squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return (N, K) ≥ 0 between points (N, D) and centres (K, D)."""
    # By the binomial formula, so that no (N, K, D) is ever made; rounding may make it negative.
    squares = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(squares - 2.0 * points @ centres.T, 0.0))
