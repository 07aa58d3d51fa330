"""How strange an image's embedding is beside those of training: its distance from the nearest of a
few typical ones, the centres of k-means (Lloyd 1982).

Each unit is first put on a scale of its own: the logarithm, where the units are rectified means,
which are skewed and of very different size, over its spread. Several centres, since the embeddings
of one class and level lie far from those of another with nothing between them: one Gaussian of the
same units, a Mahalanobis distance, let more strangers pass
(`experiments/model/out_of_distribution.py` measures it). It does not know pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cspine.core.errors import DataError

MAX_CENTRES = 64  # that a model file may hold
# Fewer images a centre, and it would lie on them instead of among them.
IMAGES_A_CENTRE = 4
ROUNDS = 20
# Without a floor a unit that is almost always 0 would dominate by its logarithm.
LOG_FLOOR = 0.1  # of a unit's mean, added before the logarithm
# Of the median spread: a unit that never moved must not divide by zero.
SPREAD_FLOOR = 0.02


@dataclass(frozen=True)
class InDistribution:
    """Typical embeddings and the score beyond which an image is a stranger.

    `centres` float32 (K, D), K ≤ 64, on the units' own scales; `threshold` is the score that the
    share `quantile` of held-out images stays under. `gains` float32 (D,) > 0 multiply the units, or
    their logarithms where there are `floors` too, float32 (D,) > 0, added before it.
    """

    centres: np.ndarray
    threshold: float
    quantile: float
    gains: np.ndarray
    floors: np.ndarray | None = None

    @cached_property
    def _centres64(self) -> np.ndarray:
        """The centres as the distances are computed, turned once and not for each image."""
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
        """Return bool (N,): the embedding is finite and no stranger than the threshold."""
        embeddings = np.asarray(embeddings, np.float64)
        finite = np.isfinite(embeddings).all(axis=1)
        # Zeros stand in for what is not finite, so that the sums raise no warning; it is refused
        # anyway.
        score = self.score(np.where(finite[:, None], embeddings, 0.0))
        return np.asarray(finite & (score <= self.threshold))

    def with_threshold(self, scores: np.ndarray) -> InDistribution:
        """Return the same centres, their threshold the score that `quantile` of `scores` stay
        under.

        `scores` (M,) are of images that training never saw, by these centres or by those of other
        networks that learned from fewer patients of the same kind.

        Raises:
            DataError: none, or not finite.
        """
        scores = np.asarray(scores, np.float64)
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise DataError(f"`scores` must be finite, (M,), M ≥ 1. Received: {scores.shape}")
        # "higher": an observed score, so that the share that was asked for really stays under it.
        threshold = float(np.quantile(scores, self.quantile, method="higher"))
        return replace(self, threshold=threshold)


def fit_distance(
    embeddings: np.ndarray, quantile: float = 0.995, held_out: np.ndarray | None = None
) -> InDistribution:
    """Fit scales and centres on training embeddings, the threshold on held-out ones.

    Args:
        embeddings: float (N, D) of training, N ≥ 2.
        quantile: share of the held-out images that count as known, above 0 and at most 1.
        held_out: float (M, D), embeddings that training never saw; without it the threshold comes
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
    gate = InDistribution(centres, np.inf, quantile, gains, floors)
    return gate.with_threshold(gate.score(known))


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
    # A unit that was never negative in training may be in a stranger's network output: clipped,
    # not NaN.
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
