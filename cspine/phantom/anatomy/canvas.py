"""Canvas that shapes are painted on, with the mapping between the neck's mm and its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cspine.phantom.anatomy.shapes import Array, Plane, Point, Window, coverage
from cspine.phantom.config import SIDE_PX
from cspine.phantom.patient import Patient


@dataclass(frozen=True)
class Spot:
    """A window of a canvas: the coordinates of its pixels, and a view of their HU to paint on.

    `softness_mm` is the width over which the edge of a painted shape is spread.
    """

    at: Plane
    hu: Array
    softness_mm: float

    def fill(self, distance: Array, value: float) -> None:
        """Paint `value` HU where `distance` is negative; pixels on the edge are blended."""
        share = coverage(distance, self.softness_mm)
        self.hu[...] += (np.float32(value) - self.hu) * share


@dataclass(frozen=True)
class Canvas:
    """A picture in HU, float32 (512, 512), over the plane of a patient's neck."""

    at: Plane
    hu: Array
    spacing_mm: float
    middle_px: Point  # column and row of the frame's origin
    rotation: float

    def window(self, centre: Point, reach: float) -> Window:
        """Rows and columns of the square around everything within `reach` mm of `centre` (mm)."""
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        # This inverts `Plane.turned`, from the neck's frame back to pixels.
        x = self.middle_px[0] + (cos * centre[0] - sin * centre[1]) / self.spacing_mm
        y = self.middle_px[1] + (sin * centre[0] + cos * centre[1]) / self.spacing_mm
        # One more pixel holds the soft edge of a painted shape.
        half = reach / self.spacing_mm + 1
        low = [int(np.clip(middle - half, 0, SIDE_PX)) for middle in (y, x)]
        high = [int(np.clip(middle + half + 1, 0, SIDE_PX)) for middle in (y, x)]
        return slice(low[0], high[0]), slice(low[1], high[1])

    def near(self, centre: Point, reach: float) -> Spot:
        """The window within `reach` mm of `centre`; empty if the window is outside the image."""
        window = self.window(centre, reach)
        # `hu` is a view, so painting on the spot also paints on the canvas.
        return Spot(self.at.within(window), self.hu[window], 1.15 * self.spacing_mm)


# Cached so that there is one object per patient and step, because the caches in `soft_tissue`
# recognise a plane by its identity.
@lru_cache(maxsize=4)
def neck_plane(patient: Patient, step: int = 1) -> Plane:
    """Coordinates in mm of the pixels, or of the middles of blocks of `step` × `step` pixels."""
    columns, rows = _middle_px(patient)
    # The middles of pixels are at integer coordinates, so the middle of a block of two is at a
    # half.
    ticks = (np.arange(0, SIDE_PX, step) + (step - 1) / 2).astype(np.float32)
    dx = (ticks[None, :] - np.float32(columns)) * np.float32(patient.spacing_mm)
    dy = (ticks[:, None] - np.float32(rows)) * np.float32(patient.spacing_mm)
    return Plane(*(np.broadcast_to(a, (ticks.size, ticks.size)) for a in (dx, dy))).turned(
        patient.rotation
    )


def make_canvas(patient: Patient, hu: Array) -> Canvas:
    """Return a canvas over `hu`, float32 (512, 512); painting on it changes `hu` in place."""
    return Canvas(
        neck_plane(patient), hu, patient.spacing_mm, _middle_px(patient), patient.rotation
    )


def _middle_px(patient: Patient) -> Point:
    return patient.middle[0] * SIDE_PX, patient.middle[1] * SIDE_PX
