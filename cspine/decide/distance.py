"""How strange an image's embedding is beside those of training: a Mahalanobis distance.

The covariance is that of probabilistic principal components (Tipping and Bishop 1999): a few axes
with their own variance and one residual variance for all other directions. It does not know pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cspine.core.errors import DataError

MAX_AXES = 64
EXPLAINED = 0.99  # share of the variance that the axes hold; the rest is the residual
VARIANCE_FLOOR = 1e-4  # of the mean variance: a unit that never moved must not divide by zero


@dataclass(frozen=True)
class InDistribution:
    """A Gaussian in embedding space and the score beyond which an image is a stranger.

    `mean` float32 (D,), `axes` float32 (K, D) orthonormal rows with K ≤ 64, `variances` float32
    (K,), `residual_variance` > 0; `threshold` is the score that the share `quantile` of held-out
    images stays under.
    """

    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    residual_variance: float
    threshold: float
    quantile: float

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Return float64 (N,) ≥ 0 for embeddings (N, D): squared distance over D, 1 on average."""
        centred = np.asarray(embeddings, np.float64) - self.mean
        along = centred @ self.axes.T.astype(np.float64)  # (N, K)
        residual = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        distance = (along**2 / self.variances).sum(axis=1) + residual / self.residual_variance
        return np.asarray(distance / len(self.mean))

    def accepts(self, embeddings: np.ndarray) -> np.ndarray:
        """Return bool (N,): the embedding is finite and no stranger than the threshold."""
        embeddings = np.asarray(embeddings, np.float64)
        finite = np.isfinite(embeddings).all(axis=1)
        score = self.score(np.where(finite[:, None], embeddings, 0.0))
        return np.asarray(finite & (score <= self.threshold))


def fit_distance(
    embeddings: np.ndarray, quantile: float = 0.995, held_out: np.ndarray | None = None
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
    mean = embeddings.mean(axis=0).astype(np.float32)
    axes, variances, residual = _principal_axes(embeddings - mean)
    gaussian = InDistribution(mean, axes, variances, residual, np.inf, quantile)
    threshold = float(np.quantile(gaussian.score(known), quantile, method="higher"))
    return InDistribution(mean, axes, variances, residual, threshold, quantile)


def _check(embeddings: np.ndarray, name: str, least: int) -> np.ndarray:
    embeddings = np.asarray(embeddings, np.float64)
    if embeddings.ndim != 2 or len(embeddings) < least or not np.isfinite(embeddings).all():
        raise DataError(
            f"`{name}` must be finite, (N, D) with N ≥ {least}. Received: {embeddings.shape}"
        )
    return embeddings


def _principal_axes(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return axes (K, D), their variances (K,) and the residual variance of the other D − K."""
    count, dimensions = centred.shape
    covariance = centred.T @ centred / (count - 1)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    floor = max(VARIANCE_FLOOR * float(values.mean()), 1e-12)
    shares = np.cumsum(values) / max(float(values.sum()), 1e-30)
    wanted = int(np.searchsorted(shares, EXPLAINED)) + 1
    kept = max(1, min(wanted, MAX_AXES, dimensions, count - 1))
    rest = values[kept:]
    residual = max(float(rest.mean()) if len(rest) else 0.0, floor)
    variances = np.maximum(values[:kept], floor)
    return vectors[:, :kept].T.astype(np.float32), variances.astype(np.float32), residual
