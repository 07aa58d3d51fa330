"""The bootstrap over groups: how often each patient is drawn, as weights for all of its slices.

Slices of one patient are alike, so that drawing slices alone would promise too much; a patient is
drawn with all slices. It does not know what is computed from the weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cspine.core.errors import DataError

# Resamples × slices in memory: 12 MB a float64 array.
CELLS_AT_ONCE = 1_500_000


def group_codes(groups: np.ndarray | None, count: int) -> np.ndarray:
    """Return each slice's group as int (N,) from 0 up; without groups each slice is its own.

    Raises:
        DataError: `groups` is not (N,).
    """
    if groups is None:
        return np.arange(count)
    groups = np.asarray(groups)
    if groups.shape != (count,):
        raise DataError(f"`groups` must be ({count},). Received: {groups.shape}")
    return np.unique(groups, return_inverse=True)[1]


def draw_weights(codes: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield float64 weights (r, N) in portions that add up to `resamples` rows.

    A row says how often each slice stands in one bootstrap sample of whole groups. With a single
    group nothing can be drawn, and no row is yielded.
    """
    total = int(codes.max(initial=-1)) + 1
    # One patient drawn again is the same patient: there is no spread to show.
    if total < 2:
        return
    rng = np.random.default_rng(seed)
    # In portions, so that memory does not grow with the number of resamples.
    portion = max(1, CELLS_AT_ONCE // max(len(codes), total))
    for start in range(0, resamples, portion):
        rows = min(portion, resamples - start)
        # Drawn one by one and counted: a multinomial of 1/G each, but much faster for large G.
        drawn = rng.integers(0, total, (rows, total)) + total * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * total).reshape(rows, total)
        # (r, G) to (r, N): a slice weighs as often as its patient was drawn.
        yield counts[:, codes].astype(np.float64)
