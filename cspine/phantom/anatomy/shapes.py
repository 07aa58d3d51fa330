"""Signed distances in mm to the plane shapes that the anatomy is composed of.

Distances are negative inside a shape and positive outside, float32 (H, W) like the coordinates
given. In these, x points to the patient's left (right in the picture) and y to the back (down).
After I. Quilez, "2D distance functions". Distances to lines and to rods of even radius are exact;
the others are of first order: exact on the edge and close to exact near it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]  # float32
Point = tuple[float, float]
Window = tuple[slice, slice]  # rows, columns


# With `eq=False`, planes are compared and hashed by identity, so that a plane can be the key of a
# cache.
@dataclass(frozen=True, eq=False)
class Plane:
    """Coordinates of a window's pixels in mm: `x` (1, W) and `y` (H, 1), or both (H, W)."""

    x: Array
    y: Array

    def turned(self, angle: float, centre: Point = (0.0, 0.0)) -> Plane:
        """The plane in a frame turned by `angle` rad, with `centre` as its new origin."""
        # Everything is float32, because one float64 array would make all later arrays twice as
        # large.
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = self.x - np.float32(centre[0]), self.y - np.float32(centre[1])
        return Plane(cos * dx + sin * dy, cos * dy - sin * dx)

    def within(self, window: Window) -> Plane:
        """The plane of some rows and columns of a (H, W) plane."""
        return Plane(self.x[window], self.y[window])


def ellipse(at: Plane, centre: Point, radii: Point, power: int = 2) -> Array:
    """Distance to an ellipse, or to a superellipse, which is squarer, if `power` is 3."""
    across, down = np.float32(1 / radii[0]), np.float32(1 / radii[1])
    # Most steps work in place, because on arrays of this size memory access costs as much as
    # arithmetic.
    u, v = at.x - np.float32(centre[0]), at.y - np.float32(centre[1])
    np.abs(u, out=u)
    np.abs(v, out=v)
    u *= across
    v *= down
    level = np.cbrt(u * u * u + v * v * v) if power == 3 else length(u, v)
    u *= across
    v *= down
    # The distance is (level - 1) divided by the slope of the level, which is exact for circles.
    slope = length(u, v)
    distance: Array = level - 1
    distance *= level
    distance /= np.maximum(slope, np.float32(1e-4), out=slope)
    return distance


def length(x: Array, y: Array) -> Array:
    """Euclidean length, several times faster than `np.hypot` and accurate enough for mm."""
    root: Array = x * x
    root += y * y
    return np.sqrt(root, out=root)


def rod(at: Plane, start: Point, end: Point, radius: float, end_radius: float) -> Array:
    """Distance to a rod with round ends, whose radius changes from `radius` to `end_radius`."""
    along, away = _along_segment(at, start, end)
    distance: Array = away - (np.float32(radius) + along * np.float32(end_radius - radius))
    return distance


def bounds(inside: npt.NDArray[np.bool_]) -> Window:
    """Smallest window that holds every true pixel of `inside`, bool (H, W).

    The window is empty if no pixel is true.
    """
    spans = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(int(s[0]), int(s[-1]) + 1) if s.size else slice(0, 0) for s in spans)
    return rows, columns


def box_about(at: Plane, centre: Point, reach: Point) -> Window:
    """Window of a (H, W) plane that holds all pixels within `reach` mm of `centre` in x and y."""
    dx, dy = at.x - np.float32(centre[0]), at.y - np.float32(centre[1])
    return bounds((np.abs(dx) < reach[0]) & (np.abs(dy) < reach[1]))


def polyline(at: Plane, points: Sequence[Point]) -> tuple[Array, Array]:
    """Distance to a polyline, and the position (0..1) of the nearest point along the polyline."""
    nearest: Array | None = None
    position: Array
    count = len(points) - 1
    for number in range(count):
        along, away = _along_segment(at, points[number], points[number + 1])
        place = (along + np.float32(number)) / np.float32(count)
        if nearest is None:
            nearest, position = away, place
            continue
        # Positions rise from segment to segment, so the maximum takes the later segment wherever
        # it is nearer. `np.where` would be slower.
        np.maximum(position, place * (away < nearest), out=position)
        np.minimum(nearest, away, out=nearest)
    if nearest is None:
        raise ValueError(f"`points` must hold at least two. Received: {len(points)}")
    return nearest, position


def wavy(at: Plane, centre: Point, radii: Point, waves: Sequence[Point]) -> Array:
    """Distance to an ellipse whose edge is bent by waves.

    `waves` holds amplitude (mm) and phase (rad) of the harmonics 2, 3, …
    """
    dx, dy = at.x - np.float32(centre[0]), at.y - np.float32(centre[1])
    angle = np.arctan2(dy / np.float32(radii[1]), dx / np.float32(radii[0]))
    edge = np.zeros_like(angle)
    # The harmonics start with the second, because the first would only move the ellipse.
    for order, (amplitude, phase) in enumerate(waves, start=2):
        edge += np.float32(amplitude) * np.cos(np.float32(order) * angle + np.float32(phase))
    bent: Array = ellipse(at, centre, radii) - edge
    return bent


def unite(first: Array, second: Array, blend_mm: float = 0.0) -> Array:
    """Distance to the union of two shapes, with the corner between them filled over `blend_mm`."""
    nearest: Array = np.minimum(first, second)
    # Blending gives rounded inner corners, as bones have.
    if blend_mm > 0:
        # This is Quilez's quadratic smooth minimum. Where both distances are equal, it subtracts a
        # quarter of `blend_mm`.
        h = np.maximum(np.float32(blend_mm) - np.abs(first - second), 0)
        nearest -= h * h * np.float32(0.25 / blend_mm)
    return nearest


def coverage(distance: Array, softness_mm: float) -> Array:
    """Share of each pixel, 0..1, that a shape covers; the edge is spread over `softness_mm`."""
    share: Array = np.clip(np.float32(0.5) - distance * np.float32(1 / softness_mm), 0, 1)
    return share


def _along_segment(at: Plane, start: Point, end: Point) -> tuple[Array, Array]:
    """Position along the segment, 0..1, and distance from it."""
    dx, dy = np.float32(end[0] - start[0]), np.float32(end[1] - start[1])
    px, py = at.x - np.float32(start[0]), at.y - np.float32(start[1])
    along: Array = px * dx
    along += py * dy
    # The lower limit avoids a division by zero for a segment of length 0.
    along /= np.maximum(dx * dx + dy * dy, np.float32(1e-6))
    np.clip(along, 0, 1, out=along)
    px -= along * dx
    py -= along * dy
    return along, length(px, py)
