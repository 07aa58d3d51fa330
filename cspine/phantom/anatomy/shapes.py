"""Signed distances of the plane shapes that the anatomy is drawn from, in millimetres.

Negative inside, positive outside, float32 (H, W) like the coordinates given: x to the patient's
left (right on the picture), y to the back (down). After I. Quilez, "2D distance functions"; exact
for rods, first order (right on the edge, close near it) for the others.
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


# Compared and hashed by identity, so that it can key a cache.
@dataclass(frozen=True, eq=False)
class Plane:
    """Where the pixels of a window lie: `x` (1, W) and `y` (H, 1) or both (H, W), in mm."""

    x: Array
    y: Array

    def turned(self, angle: float, centre: Point = (0.0, 0.0)) -> Plane:
        """The plane in a frame turned by `angle` rad about `centre`, which becomes its origin."""
        # float32 throughout: one float64 number would double every array after it.
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        dx, dy = self.x - np.float32(centre[0]), self.y - np.float32(centre[1])
        return Plane(cos * dx + sin * dy, cos * dy - sin * dx)

    def within(self, window: Window) -> Plane:
        """The plane of some rows and columns of a (H, W) plane."""
        return Plane(self.x[window], self.y[window])


def ellipse(at: Plane, centre: Point, radii: Point, power: int = 2) -> Array:
    """Distance to an ellipse, or with `power` 3 to the squarer superellipse."""
    across, down = np.float32(1 / radii[0]), np.float32(1 / radii[1])
    # In place where it can be: on arrays of this size memory costs as much as arithmetic.
    u, v = at.x - np.float32(centre[0]), at.y - np.float32(centre[1])
    np.abs(u, out=u)
    np.abs(v, out=v)
    u *= across
    v *= down
    level = np.cbrt(u * u * u + v * v * v) if power == 3 else length(u, v)
    u *= across
    v *= down
    # (level - 1) over the level's slope along the ray, which is exact on the edge for circles.
    slope = length(u, v)
    distance: Array = level - 1
    distance *= level
    distance /= np.maximum(slope, np.float32(1e-4), out=slope)
    return distance


def length(x: Array, y: Array) -> Array:
    """Euclidean length, several times faster than `np.hypot` and as good in millimetres."""
    root: Array = x * x
    root += y * y
    return np.sqrt(root, out=root)


def rod(at: Plane, start: Point, end: Point, radius: float, end_radius: float) -> Array:
    """Distance to a rod with round ends; its radius runs from `radius` to `end_radius`."""
    along, away = _along_segment(at, start, end)
    distance: Array = away - (np.float32(radius) + along * np.float32(end_radius - radius))
    return distance


def bounds(inside: npt.NDArray[np.bool_]) -> Window:
    """The smallest rows and columns that hold all of a bool (H, W); empty where it is."""
    spans = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(int(s[0]), int(s[-1]) + 1) if s.size else slice(0, 0) for s in spans)
    return rows, columns


def box_about(at: Plane, centre: Point, reach: Point) -> Window:
    """Rows and columns of a (H, W) plane that hold all within `reach` mm of `centre` in x and y."""
    dx, dy = at.x - np.float32(centre[0]), at.y - np.float32(centre[1])
    return bounds((np.abs(dx) < reach[0]) & (np.abs(dy) < reach[1]))


def polyline(at: Plane, points: Sequence[Point]) -> tuple[Array, Array]:
    """Distance to a broken line, and the position along it (0..1) of the nearest point."""
    nearest: Array | None = None
    position: Array
    count = len(points) - 1
    for number in range(count):
        along, away = _along_segment(at, points[number], points[number + 1])
        place = (along + np.float32(number)) / np.float32(count)
        if nearest is None:
            nearest, position = away, place
            continue
        # Places rise from segment to segment, so the greater of two is the later one; a choice by
        # `np.where` is slow where two segments are equally near.
        np.maximum(position, place * (away < nearest), out=position)
        np.minimum(nearest, away, out=nearest)
    if nearest is None:
        raise ValueError(f"`points` must hold at least two. Received: {len(points)}")
    return nearest, position


def wavy(at: Plane, centre: Point, radii: Point, waves: Sequence[Point]) -> Array:
    """Distance to an ellipse bent by harmonics 2, 3, …: (amplitude in mm, phase in rad) each."""
    dx, dy = at.x - np.float32(centre[0]), at.y - np.float32(centre[1])
    angle = np.arctan2(dy / np.float32(radii[1]), dx / np.float32(radii[0]))
    edge = np.zeros_like(angle)
    # From the second on: the first harmonic would only move the ellipse.
    for order, (amplitude, phase) in enumerate(waves, start=2):
        edge += np.float32(amplitude) * np.cos(np.float32(order) * angle + np.float32(phase))
    bent: Array = ellipse(at, centre, radii) - edge
    return bent


def unite(first: Array, second: Array, blend_mm: float = 0.0) -> Array:
    """Distance to both shapes together, the corner between them filled over `blend_mm`."""
    nearest: Array = np.minimum(first, second)
    # A smooth minimum: bones have no knife-edged inner corners.
    if blend_mm > 0:
        # Quilez's quadratic minimum: where both are equal, a quarter of the blend comes off.
        h = np.maximum(np.float32(blend_mm) - np.abs(first - second), 0)
        nearest -= h * h * np.float32(0.25 / blend_mm)
    return nearest


def coverage(distance: Array, softness_mm: float) -> Array:
    """Share of a pixel, 0..1, that a shape covers; its edge is spread over `softness_mm`."""
    share: Array = np.clip(np.float32(0.5) - distance * np.float32(1 / softness_mm), 0, 1)
    return share


def _along_segment(at: Plane, start: Point, end: Point) -> tuple[Array, Array]:
    """Position along the segment, 0..1, and distance from it."""
    dx, dy = np.float32(end[0] - start[0]), np.float32(end[1] - start[1])
    px, py = at.x - np.float32(start[0]), at.y - np.float32(start[1])
    along: Array = px * dx
    along += py * dy
    # A segment of no length is a point.
    along /= np.maximum(dx * dx + dy * dy, np.float32(1e-6))
    np.clip(along, 0, 1, out=along)
    px -= along * dx
    py -= along * dy
    return along, length(px, py)
