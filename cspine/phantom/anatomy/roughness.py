"""Smooth random fields that make tissue uneven."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cspine.phantom.anatomy.shapes import Array
from cspine.phantom.config import SIDE_PX
from cspine.phantom.patient import ROUGHNESS, Patient, Rng, stream

_HALF_PX = SIDE_PX // 2


def doubled(half: Array) -> Array:
    """Return `half` with twice the rows and columns, interpolated linearly between its pixels."""
    rows, columns = half.shape
    tall = np.empty((2 * rows, columns), np.float32)
    _double_rows(half, tall)
    whole = np.empty((2 * rows, 2 * columns), np.float32)
    _double_rows(tall.T, whole.T)
    return whole


def _double_rows(values: Array, grown: Array) -> None:
    # The middles of the new pixels lie a quarter of an old pixel off the middles of the old ones.
    near, far = np.float32(0.75) * values, np.float32(0.25) * values
    np.add(near[1:], far[:-1], out=grown[2::2])
    np.add(near[:-1], far[1:], out=grown[1:-1:2])
    for end in (0, -1):
        grown[end] = near[end] + far[end]


@lru_cache(maxsize=8)
def _rough_bank(key: tuple[int, ...], cells: int) -> Array:
    """Return a patient's smooth noise, a tile of 384 × 384 pixels enlarged from `cells` × `cells`.

    The tile's first 256 rows and columns are repeated after its end, so that every cyclic shift of
    the tile is a view.
    """
    field = stream(ROUGHNESS, *key, cells).standard_normal((cells, cells), dtype=np.float32)
    # The callers use 12, 24 and 48 cells, which all give a tile of 384 pixels per side.
    while field.shape[0] < _HALF_PX:
        field = doubled(field)
    return np.pad(field * np.float32(1 / field.std()), (0, _HALF_PX), mode="wrap")


def rough_field(patient: Patient, rng: Rng, cells: int) -> Array:
    """Return the patient's smooth noise (256, 256), shifted at random.

    Its mean is about 0 and its standard deviation about 1.
    """
    bank = _rough_bank(patient.key, cells)
    side = bank.shape[0] - _HALF_PX
    # A random view of the bank is far cheaper than new noise and varies as much.
    row, column = -rng.integers(0, side, 2) % side
    return bank[row : row + _HALF_PX, column : column + _HALF_PX]
