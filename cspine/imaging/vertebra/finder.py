"""Finder of the cervical vertebra in one axial slice, from grey values alone.

A learned filter finds the likeliest centre. The finder reports no vertebra if the filter's score is
too low, if there is too little bone around the centre or if, as in a skull, there is much bone far
to the sides. The finder works in any window, with white or black outside the field of view, and on
images rotated by up to about 20°. Lengths are fractions of the field of view, which is 12 to 26 cm
in CT of the neck.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cspine.imaging.vertebra.bone import Map, bone_map
from cspine.imaging.vertebra.centre import find_centre

# Fractions of the longer side of the picture.
_REACH = 0.22  # no part of a vertebra is farther than this from its centre
_TOUCH = 0.13  # pieces of bone that come this near to the centre belong to the vertebra

_LEAST_SCORE = 10.0  # log-odds of the best position against the median position
_LEAST_BONE = 0.003  # a vertebra covers at least this share of the picture
# Limit of `_bone_aside`. The highest value of 1600 phantoms is 0.0145; skulls have more.
_MOST_ASIDE = 0.016


@dataclass(frozen=True)
class Box:
    """A rectangle in source pixels that may extend beyond the image; `x1`, `y1` are exclusive."""

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
        """Return the part, possibly empty, of the box inside an image of `height` × `width`."""
        x0, x1 = (min(max(x, 0), width) for x in (self.x0, self.x1))
        y0, y1 = (min(max(y, 0), height) for y in (self.y0, self.y1))
        return Box(x0, y0, x1, y1)


def find_vertebra(grey: npt.NDArray[np.uint8]) -> Box | None:
    """Return the vertebra's box in source pixels of `grey`, uint8 (H, W); None if none is found."""
    measured = bone_map(grey)
    if measured is None:
        return None
    bone, step = measured
    score, row, column = find_centre(bone)
    if score < _LEAST_SCORE:
        return None
    piece = _vertebra_cells(bone, row, column)
    if piece.sum() < _LEAST_BONE * bone.size or _bone_aside(bone, piece, column) > _MOST_ASIDE:
        return None
    return _box_around(row, column, piece, step)


def _vertebra_cells(bone: Map, row: float, column: float) -> npt.NDArray[np.bool_]:
    """Return which cells, bool (h, w), belong to the vertebra with its centre at (row, column)."""
    longer = max(bone.shape)
    # Only this window is labelled: no cell of the vertebra is outside, and each cell costs time.
    window = tuple(
        slice(
            max(0, int(middle - _REACH * longer) - 1), min(side, int(middle + _REACH * longer) + 2)
        )
        for middle, side in zip((row, column), bone.shape, strict=True)
    )
    rows, columns = np.ogrid[window]
    away = np.hypot(rows - row, columns - column) / longer
    near = (bone[window] > 0.5) & (away < _REACH)
    # The bone is dilated by one cell before labelling, so that a fracture or a facet joint does
    # not separate the arch from the vertebra.
    pieces, count = ndimage.label(ndimage.binary_dilation(near, np.ones((3, 3))))
    is_kept = np.zeros(count + 1, np.bool_)
    is_kept[pieces[near & (away < _TOUCH)]] = True
    belongs = np.zeros(bone.shape, np.bool_)
    belongs[window] = near & is_kept[pieces]
    return belongs


def _bone_aside(bone: Map, piece: npt.NDArray[np.bool_], column: float) -> float:
    """Return the sum over cells of other bone of their sideways distance from `column`.

    The distance is a share of the longer side, and the sum is divided by the number of cells.
    """
    # (w,): the number of cells in each column with bone that is not the vertebra's.
    other = ((bone > 0.5) & ~piece).sum(axis=0)
    aside = np.abs(np.arange(bone.shape[1]) - column) / max(bone.shape)
    return float(other @ aside / bone.size)


def _box_around(row: float, column: float, piece: npt.NDArray[np.bool_], step: int) -> Box:
    """Return the box around cell (row, column) that leaves out 2 % of the cells on each axis."""
    rows, columns = np.nonzero(piece)
    # A quantile is taken, because with the maximum one stray speck of bone would widen the box.
    half_height = (np.quantile(np.abs(rows - row), 0.98) + 0.5) * step
    half_width = (np.quantile(np.abs(columns - column), 0.98) + 0.5) * step
    x, y = (column + 0.5) * step, (row + 0.5) * step
    return Box(
        round(x - half_width), round(y - half_height), round(x + half_width), round(y + half_height)
    )
