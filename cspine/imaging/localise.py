"""Where the cervical vertebra is in one axial slice, from grey values alone.

Works on PNG pixels of any window, with white or black outside the field of view.
It does not know Hounsfield units, the level, or whether anything is broken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

WORKING_SIDE_PX = 128


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


def find_vertebra(grey: np.ndarray) -> Box | None:
    """The box of the vertebra in `grey`, uint8 (H, W), or None where none is seen.

    First cut: the largest piece of bone in the middle of the picture.
    """
    step = max(1, max(grey.shape) // WORKING_SIDE_PX)
    small = grey[::step, ::step].astype(np.float32)
    height, width = small.shape
    rows, columns = np.ogrid[:height, :width]
    middle = (rows - 0.5 * height) ** 2 + (columns - 0.5 * width) ** 2 < (0.3 * width) ** 2
    bone = (ndimage.uniform_filter(small, 3) > 200) & middle
    labels, count = ndimage.label(bone)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    piece = ndimage.find_objects(labels)[int(sizes.argmax())]
    if sizes.max() < 0.004 * small.size:
        return None
    y, x = piece
    return Box(x.start * step, y.start * step, x.stop * step, y.stop * step)
