"""Where the cervical vertebra is in one axial slice, from grey values alone.

A vertebra is a compact heap of bone with muscle around and no bone behind; a skull is a wide ring.
Works on PNG pixels of any window, with white or black outside the field of view, and on pictures
turned by up to about 20°. It does not know Hounsfield units, the level, or whether anything is
broken; lengths are fractions of the field of view, which is 12 to 26 cm in CT of the neck.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cspine.imaging.vertebra_bone import Map, bone_map
from cspine.imaging.vertebra_centre import correct_centre

# Fractions of the longer side of the picture.
_HEAP, _AROUND = 0.07, 0.16  # standard deviations of the heap of bone and of its surroundings
_BEHIND = (0.20, 0.55)  # where no bone may lie behind a vertebra …
_BEHIND_ANGLE = 0.9  # … within this angle (rad) of straight back
_REACH = 0.22  # no part of a vertebra lies farther from its centre
_WALK, _STEPS = 0.11, 6  # standard deviation of the window that settles on the middle, and steps
_TOUCH = 0.13  # pieces of bone that come this near to the centre belong to the vertebra

_LEAST_SCORE = 0.03  # heap of bone less bone behind; real necks had 0.17 and more, phantoms less
_LEAST_BONE = 0.003  # share of the picture that the vertebra covers at least
_MOST_OTHER_BONE = 0.0535  # set between 99.5 % of phantoms (0.052) and real skulls (from 0.056)


@dataclass(frozen=True)
class Box:
    """A rectangle in source pixels; `x1` and `y1` are exclusive; it may stick out of the image."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Columns covered, in pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Rows covered, in pixels."""
        return self.y1 - self.y0

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box as (x, y), in pixels."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def clip_to(self, height: int, width: int) -> Box:
        """The part of the box inside an image of `height` × `width` pixels (possibly empty)."""
        x0, x1 = (min(max(x, 0), width) for x in (self.x0, self.x1))
        y0, y1 = (min(max(y, 0), height) for y in (self.y0, self.y1))
        return Box(x0, y0, x1, y1)


def find_vertebra(grey: npt.NDArray[np.uint8]) -> Box | None:
    """The vertebra's box in source pixels of `grey`, uint8 (H, W); None where none is seen."""
    measured = bone_map(grey)
    if measured is None:
        return None
    bone, step = measured
    score, row, column = best_place(bone)
    if score < _LEAST_SCORE:
        return None
    row, column = settle_on_bone(bone, row, column)
    row, column = correct_centre(bone, row, column)
    piece = _vertebra_cells(bone, row, column)
    covered, all_bone = piece.sum() / bone.size, (bone > 0.5).sum() / bone.size
    if covered < _LEAST_BONE or all_bone - covered > _MOST_OTHER_BONE:
        return None
    return _box_around(row, column, piece, step)


@lru_cache(maxsize=8)
def _template(side: int) -> npt.NDArray[np.complex64]:
    """The matched filter's conjugate spectrum; its grid of 2 · `side` cells stops wrap-around."""
    rows, columns = np.mgrid[-side:side, -side:side] / side
    radius, angle = np.hypot(rows, columns), np.abs(np.arctan2(columns, rows))
    heap, around = (
        np.exp(-((radius / sigma) ** 2) / 2) / (2 * np.pi * (sigma * side) ** 2)
        for sigma in (_HEAP, _AROUND)
    )
    behind = (radius > _BEHIND[0]) & (radius < _BEHIND[1]) & (angle < _BEHIND_ANGLE)
    kernel = np.fft.ifftshift(heap - around - 16 * behind / side**2)
    return np.fft.rfft2(kernel).conj().astype(np.complex64)


def best_place(bone: Map) -> tuple[float, float, float]:
    """Score and (row, column), in cells, of the place most like a vertebra."""
    height, width = (side // 2 for side in bone.shape)
    half = bone[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
    side = max(height, width)
    spectrum = np.fft.rfft2(half, (2 * side, 2 * side)) * _template(side)
    scores = np.fft.irfft2(spectrum, (2 * side, 2 * side))[:height, :width]
    row, column = np.unravel_index(scores.argmax(), scores.shape)
    return float(scores[row, column]), 2 * row + 0.5, 2 * column + 0.5


def settle_on_bone(bone: Map, row: float, column: float) -> tuple[float, float]:
    """Walk to the middle of the bone nearby (mean shift under a Gaussian window), in cells.

    Unlike the middle of the bone's outline it hardly moves when a thin process or a piece of
    cartilage appears, or when the picture is turned, resized or windowed anew.
    """
    rows, columns = (np.arange(side, dtype=np.float32) for side in bone.shape)
    sigma = _WALK * max(bone.shape)
    for _ in range(_STEPS):
        down = np.exp(-(((rows - row) / sigma) ** 2) / 2)
        right = np.exp(-(((columns - column) / sigma) ** 2) / 2)
        per_row, per_column = (bone @ right) * down, (down @ bone) * right
        row, column = (
            float(mass @ place / (mass.sum() + 1e-6))
            for mass, place in ((per_row, rows), (per_column, columns))
        )
    return row, column


def _vertebra_cells(bone: Map, row: float, column: float) -> npt.NDArray[np.bool_]:
    """Which cells, bool (h, w), belong to the vertebra whose middle is (row, column)."""
    rows, columns = np.ogrid[: bone.shape[0], : bone.shape[1]]
    away = np.hypot(rows - row, columns - column) / max(bone.shape)
    near = (bone > 0.5) & (away < _REACH)
    pieces, _ = ndimage.label(ndimage.binary_dilation(near, np.ones((3, 3))))
    kept = np.unique(pieces[near & (away < _TOUCH)])
    belongs: npt.NDArray[np.bool_] = near & np.isin(pieces, kept)
    return belongs


def _box_around(row: float, column: float, piece: npt.NDArray[np.bool_], step: int) -> Box:
    """The box centred on cell (row, column) that holds all but 2 % of the vertebra's cells."""
    rows, columns = np.nonzero(piece)
    half_height = (np.quantile(np.abs(rows - row), 0.98) + 0.5) * step
    half_width = (np.quantile(np.abs(columns - column), 0.98) + 0.5) * step
    x, y = (column + 0.5) * step, (row + 0.5) * step
    return Box(
        round(x - half_width), round(y - half_height), round(x + half_width), round(y + half_height)
    )
