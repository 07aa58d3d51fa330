"""How strange an image's embedding is beside those of training: a Mahalanobis distance.

Each unit is first put on a scale of its own: the logarithm, where the units are rectified means,
which are skewed and of very different size, over the spread that the other units do not explain.
The covariance is then that of probabilistic principal components (Tipping and Bishop 1999): a few
axes with their own variance and one residual variance for all other directions. Scaled so, the
model is a factor analysis, in which a unit that others foretell well counts most. Of 128 real
crops, which a model that learned from phantoms alone must refuse, two CNNs refused 112 and 93 at a
threshold that 99.5 % of unseen phantoms stay under; by principal components of plain embeddings
they refused 1 and 12. It does not know pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cspine.core.errors import DataError

MAX_AXES = 64  # that a model file may hold
# Without a floor a unit that is almost always 0 would dominate by its logarithm.
LOG_FLOOR = 0.1  # of a unit's mean, added before the logarithm
# Of a unit's spread: what others foretell exactly must not divide by zero.
SPREAD_FLOOR = 0.02
# Of the mean variance: a unit that never moved must not divide by zero.
VARIANCE_FLOOR = 1e-4


@dataclass(frozen=True)
class InDistribution:
    """A Gaussian of scaled embeddings and the score beyond which an image is a stranger.

    `mean` float32 (D,), `axes` float32 (K, D) orthonormal rows with K ≤ 64, `variances` float32
    (K,), `residual_variance` > 0; `threshold` is the score that the share `quantile` of held-out
    images stays under. `gains` float32 (D,) > 0 multiply the units, or their logarithms where
    there are `floors` too, float32 (D,) > 0, added before it; without gains the embedding is
    taken as it is.
    """

    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    residual_variance: float
    threshold: float
    quantile: float
    gains: np.ndarray | None = None
    floors: np.ndarray | None = None

    @property
    def scaling(self) -> str:
        """`log`, `linear` or `none`: what is done to the units first."""
        if self.gains is None:
            return "none"
        return "linear" if self.floors is None else "log"

    def scale(self, embeddings: np.ndarray) -> np.ndarray:
        """Return float64 (N, D): the embeddings on the units' own scales."""
        scaled = _take_log(np.asarray(embeddings, np.float64), self.floors)
        return scaled if self.gains is None else scaled * self.gains

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Return float64 (N,) ≥ 0 for embeddings (N, D): squared distance over D, 1 on average."""
        centred = self.scale(embeddings) - self.mean
        along = centred @ self.axes.T.astype(np.float64)  # (N, K)
        # What the axes leave, by Pythagoras: no second projection; rounding may make it negative.
        residual = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        distance = (along**2 / self.variances).sum(axis=1) + residual / self.residual_variance
        # D is the mean of a squared Mahalanobis distance under its own Gaussian.
        return np.asarray(distance / len(self.mean))

    def accepts(self, embeddings: np.ndarray) -> np.ndarray:
        """Return bool (N,): the embedding is finite and no stranger than the threshold."""
        embeddings = np.asarray(embeddings, np.float64)
        finite = np.isfinite(embeddings).all(axis=1)
        # Zeros stand in for what is not finite, so that the sums raise no warning; it is refused
        # anyway.
        score = self.score(np.where(finite[:, None], embeddings, 0.0))
        return np.asarray(finite & (score <= self.threshold))

    def with_threshold(self, scores: np.ndarray) -> InDistribution:
        """Return the same Gaussian, its threshold the score that `quantile` of `scores` stay under.

        `scores` (M,) are of images that training never saw, by this Gaussian or by those of other
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
    embeddings: np.ndarray, quantile: float = 0.997, held_out: np.ndarray | None = None
) -> InDistribution:
    """Fit mean and axes on training embeddings, the threshold on held-out ones.

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
    scaled = scaled * gains
    mean = scaled.mean(axis=0).astype(np.float32)
    parts = (mean, *_principal_axes(scaled - mean))
    gaussian = InDistribution(*parts, np.inf, quantile, gains, floors)
    return gaussian.with_threshold(gaussian.score(known))


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
    """Return one over each unit's spread (D,) that the leading axes of all units leave."""
    spread = scaled.std(axis=0)
    spread = np.maximum(spread, max(SPREAD_FLOOR * float(np.median(spread)), 1e-6))
    units = (scaled - scaled.mean(axis=0)) / spread
    # By what the shared axes leave: a unit that others foretell well then counts most.
    axes, _, _ = _principal_axes(units)
    # (D,): of units (N, D) less their projection on the shared axes.
    left = (units - (units @ axes.T) @ axes).std(axis=0)
    return np.asarray(1.0 / (spread * np.maximum(left, SPREAD_FLOOR)), np.float32)


def _principal_axes(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return axes (K, D), their variances (K,) and the residual variance of the other D − K."""
    count, dimensions = centred.shape
    covariance = centred.T @ centred / (count - 1)
    # `eigh` sorts upwards; rounding makes the smallest slightly negative.
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    floor = max(VARIANCE_FLOOR * float(values.mean()), 1e-12)
    # N samples span N − 1 directions: with all of them kept nothing is left to tell how far a new
    # sample lies off them, so half must do.
    kept = max(1, min(MAX_AXES, dimensions, (count - 1) // 2))
    rest = values[kept:]
    # By maximum likelihood the mean of the eigenvalues left out (Tipping and Bishop 1999, eq. 8).
    residual = max(float(rest.mean()) if len(rest) else 0.0, floor)
    variances = np.maximum(values[:kept], floor)
    return vectors[:, :kept].T.astype(np.float32), variances.astype(np.float32), residual
