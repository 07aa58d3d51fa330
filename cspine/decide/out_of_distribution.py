"""Out-of-distribution detection: an embedding's distance from the nearest k-means centre of the
training embeddings (Lloyd 1982).

Each unit (element) of the embedding is first divided by its standard deviation over the training
images. If the units are rectified means, which are skewed and of very different size, their
logarithms are used. There are several centres, since embeddings of different classes and vertebral
levels form separate clusters. A single Gaussian (Mahalanobis distance) of the same units accepted
more unrelated pictures (`experiments/model/out_of_distribution.py` measures it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cspine.core.errors import DataError

MAX_CENTRES = 64  # the most that a model file may hold
# With too few images per centre, a centre would coincide with an image.
IMAGES_A_CENTRE = 4
ROUNDS = 20
# Share of a unit's mean that is added before the logarithm. Without it, the logarithm of a unit
# that is almost always 0 would dominate the distance.
LOG_FLOOR = 0.1
# Share of the median spread, the least spread of a unit: a constant unit must not divide by zero.
SPREAD_FLOOR = 0.02


@dataclass(frozen=True)
class InDistribution:
    """Typical embeddings, and the score above which an image is out of distribution.

    `centres` float32 (K, D), K ≤ 64, are scaled embeddings; `threshold` is the score that a share
    `quantile` of held-out images does not exceed. `gains` float32 (D,) > 0 multiply the units. If
    there are `floors`, float32 (D,) > 0, they are added to the units, and `gains` multiply the
    logarithms of the sums.
    """

    centres: np.ndarray
    threshold: float
    quantile: float
    gains: np.ndarray
    floors: np.ndarray | None = None

    @cached_property
    def _centres64(self) -> np.ndarray:
        """Return the centres in float64; they are converted once, not for each image."""
        return self.centres.astype(np.float64)

    @property
    def scaling(self) -> str:
        """Return `log` if logarithms of the units are used, else `linear`."""
        return "linear" if self.floors is None else "log"

    def scale(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the embeddings scaled by unit, float64 (N, D)."""
        scaled = _take_log(np.asarray(embeddings, np.float64), self.floors)
        return np.asarray(scaled * self.gains)

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the scores, float64 (N,) ≥ 0, of embeddings (N, D).

        A score is the squared distance of the scaled embedding to the nearest centre, divided by D.
        """
        distances = _squared_distances(self.scale(embeddings), self._centres64)
        return np.asarray(distances.min(axis=1) / self.centres.shape[1])

    def accepts(self, embeddings: np.ndarray) -> np.ndarray:
        """Return bool (N,): the embedding is finite and its score at most the threshold."""
        embeddings = np.asarray(embeddings, np.float64)
        finite = np.isfinite(embeddings).all(axis=1)
        # Embeddings that are not finite are refused; zeros replace them here to avoid warnings.
        score = self.score(np.where(finite[:, None], embeddings, 0.0))
        return np.asarray(finite & (score <= self.threshold))

    def with_threshold(self, scores: np.ndarray) -> InDistribution:
        """Return a copy with the threshold that a share `quantile` of `scores` does not exceed.

        `scores` (M,) are those of images that were not trained on. They come from these centres, or
        from other networks' centres that were trained on fewer patients of the same kind.

        Raises:
            DataError: there are no scores, or some are not finite.
        """
        scores = np.asarray(scores, np.float64)
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise DataError(
                f"`scores` must be finite, of shape (M,) with M ≥ 1. Received: {scores.shape}"
            )
        # "higher" takes an observed score, so that at least the share `quantile` is accepted.
        threshold = float(np.quantile(scores, self.quantile, method="higher"))
        return replace(self, threshold=threshold)


def fit_distance(
    embeddings: np.ndarray, quantile: float = 0.995, held_out: np.ndarray | None = None
) -> InDistribution:
    """Fit scales and centres on training embeddings, and the threshold on held-out ones.

    Args:
        embeddings: training embeddings, float (N, D), N ≥ 2.
        quantile: share of the held-out images to accept, above 0 and at most 1.
        held_out: embeddings of images that were not trained on, float (M, D); without it the
            threshold comes from `embeddings`, and is too low for new patients.

    Raises:
        DataError: embeddings are too few, not finite or of different D, or `quantile` is out of
            range.
    """
    embeddings = _check(embeddings, "embeddings", least=2)
    known = embeddings if held_out is None else _check(held_out, "held_out", least=1)
    if not 0 < quantile <= 1:
        raise DataError(f"`quantile` must be above 0 and at most 1. Received: {quantile}")
    if known.shape[1] != embeddings.shape[1]:
        raise DataError(f"`held_out` must have D = {embeddings.shape[1]}. Received: {known.shape}")
    # Scales and centres are rounded to float32 before the threshold is computed, because serving
    # reads the rounded numbers.
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
            f"`{name}` must be finite, of shape (N, D) with N ≥ {least}. "
            f"Received: {embeddings.shape}"
        )
    return embeddings


def _take_log(embeddings: np.ndarray, floors: np.ndarray | None) -> np.ndarray:
    """Return the logarithms of units (N, D) plus their floors; without floors, the units."""
    if floors is None:
        return embeddings
    # Clipped, since a unit that was never negative in training may be negative in another image.
    return np.asarray(np.log(np.maximum(embeddings, 0.0) + floors))


def _log_floors(embeddings: np.ndarray) -> np.ndarray | None:
    """Return what to add before the logarithm (D,); None if a unit is negative anywhere."""
    if embeddings.min() < 0:
        return None
    means = embeddings.mean(axis=0)
    # A unit that is always 0 has a mean of 0, so its floor comes from the other units.
    least = max(1e-3 * float(means.mean()), 1e-12)
    return np.asarray(np.maximum(LOG_FLOOR * means, least), np.float32)


def _unit_gains(scaled: np.ndarray) -> np.ndarray:
    """Return the reciprocal of each unit's spread (D,)."""
    spread = scaled.std(axis=0)
    least = max(SPREAD_FLOOR * float(np.median(spread)), 1e-6)
    return np.asarray(1.0 / np.maximum(spread, least), np.float32)


def _find_centres(scaled: np.ndarray) -> np.ndarray:
    """Return the k-means centres (K, D) of points (N, D); the result is deterministic."""
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
    """Return squared distances (N, K) ≥ 0 between points (N, D) and centres (K, D)."""
    # (a − b)² = a² + b² − 2ab needs no (N, K, D) array. Rounding may make the result negative.
    squares = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(squares - 2.0 * points @ centres.T, 0.0))
