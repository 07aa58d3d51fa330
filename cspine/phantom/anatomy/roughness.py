"""Smooth random fields, for the unevenness of tissue."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cspine.phantom.anatomy.shapes import Array
from cspine.phantom.config import SIDE_PX
from cspine.phantom.patient import ROUGHNESS, Patient, Rng, stream

_HALF_PX = SIDE_PX // 2


def doubled(half: Array) -> Array:
    """Twice the rows and columns, linearly between the middles of the old pixels."""
    rows, columns = half.shape
    tall = np.empty((2 * rows, columns), np.float32)
    _double_rows(half, tall)
    whole = np.empty((2 * rows, 2 * columns), np.float32)
    _double_rows(tall.T, whole.T)
    return whole


def _double_rows(values: Array, grown: Array) -> None:
    # Linear interpolation to the quarter points: new pixels lie a quarter off the old ones.
    near, far = np.float32(0.75) * values, np.float32(0.25) * values
    np.add(near[1:], far[:-1], out=grown[2::2])
    np.add(near[:-1], far[1:], out=grown[1:-1:2])
    for end in (0, -1):
        grown[end] = near[end] + far[end]


@lru_cache(maxsize=8)
def _rough_bank(key: tuple[int, ...], cells: int) -> Array:
    """A patient's smooth noise: a tile of 384 pixels, doubled in size from `cells` values a side.

    It is followed by its own first 256 rows and columns, so that any shift of it is a view.
    """
    field = stream(ROUGHNESS, *key, cells).standard_normal((cells, cells), dtype=np.float32)
    # 12, 24 and 48 cells, all that are asked for, end at a tile of 384.
    while field.shape[0] < _HALF_PX:
        field = doubled(field)
    return np.pad(field * np.float32(1 / field.std()), (0, _HALF_PX), mode="wrap")


def rough_field(patient: Patient, rng: Rng, cells: int) -> Array:
    """Smooth noise (256, 256) of mean 0 and deviation 1: the patient's, shifted at random."""
    bank = _rough_bank(patient.key, cells)
    side = bank.shape[0] - _HALF_PX
    # A random view of one bank: far cheaper than new noise, and as different.
    row, column = -rng.integers(0, side, 2) % side
    return bank[row : row + _HALF_PX, column : column + _HALF_PX]
