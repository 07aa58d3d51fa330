"""Block means: an image reduced by a whole number, exactly, many times faster than `np.mean`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MOST_ROWS = 257  # of 255 each, which is as much as 16 bits hold


def block_means(grey: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.float32]:
    """Return the means of square blocks of uint8 (H, W), as float32 (H // side, W // side), 0–255.

    Rows and columns that fill no block are left out.
    """
    height, width = (length // side for length in grey.shape)
    if height * width == 0:
        return np.zeros((height, width), np.float32)
    within = grey[: height * side, : width * side]
    # Whole rows in as few bits as hold their sum: many times faster than a sum over short axes.
    dtype = np.uint16 if side <= _MOST_ROWS else np.uint32
    rows = np.zeros((height, width * side), dtype)
    for first in range(side):
        rows += within[first::side]
    # (height, width): what is left to add is `side` columns of each block.
    sums = np.zeros((height, width), np.uint32)
    for first in range(side):
        sums += rows[:, first::side]
    return sums.astype(np.float32) / np.float32(side * side)
