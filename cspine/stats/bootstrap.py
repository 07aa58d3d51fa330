"""Bootstrap samples of groups (patients), as a weight for each slice.

Slices of one patient are alike, so sampling single slices would make intervals too narrow.
Hence each sample draws patients, with all of their slices. A slice's weight is how often its
patient was drawn; what is computed from the weights is up to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cspine.core.errors import DataError

# Resamples × slices in memory at once: 12 MB per float64 array.
CELLS_AT_ONCE = 1_500_000


def group_codes(groups: np.ndarray | None, count: int) -> np.ndarray:
    """Return each slice's group as int (N,), from 0; if `groups` is None, one group per slice.

    Raises:
        DataError: `groups` is not (N,).
    """
    if groups is None:
        return np.arange(count)
    groups = np.asarray(groups)
    if groups.shape != (count,):
        raise DataError(f"`groups` must have the shape ({count},). Received: {groups.shape}")
    return np.unique(groups, return_inverse=True)[1]


def draw_weights(codes: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield float64 weights (r, N) in portions that add up to `resamples` rows.

    A row says how often each slice occurs in one bootstrap sample of groups. With a single group,
    no row is yielded.
    """
    total = int(codes.max(initial=-1)) + 1
    # Every sample of a single patient is the same, so there is no spread to measure.
    if total < 2:
        return
    rng = np.random.default_rng(seed)
    # Yielded in portions, so that memory does not grow with the number of resamples.
    portion = max(1, CELLS_AT_ONCE // max(len(codes), total))
    for start in range(0, resamples, portion):
        rows = min(portion, resamples - start)
        # Counts of G drawn groups (G = `total`) have the same distribution as `rng.multinomial`
        # with probabilities 1/G, which is much slower for large G.
        drawn = rng.integers(0, total, (rows, total)) + total * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * total).reshape(rows, total)
        # From (r, G) to (r, N): a slice's weight is how often its patient was drawn.
        yield counts[:, codes].astype(np.float64)
