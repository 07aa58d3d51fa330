"""Exact means over square blocks of pixels, computed many times faster than with `np.mean`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MOST_ROWS = 257  # 257 × 255 = 65535, the largest number of 16 bits


def block_means(grey: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.float32]:
    """Return the means of square blocks of uint8 (H, W), as float32 (H // side, W // side), 0–255.

    Rows and columns at the end that do not fill a block are left out.
    """
    height, width = (length // side for length in grey.shape)
    if height * width == 0:
        return np.zeros((height, width), np.float32)
    within = grey[: height * side, : width * side]
    # Adding complete rows in as few bits as their sum needs is many times faster than summing over
    # short axes.
    dtype = np.uint16 if side <= _MOST_ROWS else np.uint32
    rows = np.zeros((height, width * side), dtype)
    for first in range(side):
        rows += within[first::side]
    # (height, width): the `side` columns of each block are added next.
    sums = np.zeros((height, width), np.uint32)
    for first in range(side):
        sums += rows[:, first::side]
    return sums.astype(np.float32) / np.float32(side * side)
