"""The neck around the spine at one height, in Hounsfield units: skin, fat, muscle, head-rest, air.

The frame is the vertebra's: the origin is at the front of the canal, x points to the patient's left
and y to the back, in mm. Muscles are the cells of a bent Voronoi diagram around hand-placed
middles, and the fat planes are the borders of the cells. Each row of `muscles.csv` describes a cell
of one side: its middle, which is mirrored and jittered, its squared radius, which is its weight,
and how often the cell is filled with fat instead of muscle. Fat is frequent in the posterior
triangle and the carotid space.
For speed, smooth fields are drawn on the half grid, which has half the rows and columns, and then
doubled, and what all slices of a patient share is cached.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cspine.phantom.anatomy.roughness import doubled, rough_field
from cspine.phantom.anatomy.shapes import (
    Array,
    Plane,
    Point,
    Window,
    bounds,
    coverage,
    ellipse,
    unite,
    wavy,
)
from cspine.phantom.anatomy.tables import load_table
from cspine.phantom.patient import TISSUE, Patient, Position, Rng, stream

AIR_HU, FAT_HU, SKIN_HU = -1000.0, -100.0, 45.0


def draw_neck(half: Plane, patient: Patient, position: Position) -> Array:
    """Return the neck in HU, float32 (2 H, 2 W), from the plane of the half grid (H, W)."""
    rng = stream(TISSUE, *patient.key, position.index)
    outline = _outline(half, patient, position)
    muscle = _muscles(half, patient, rng, outline)
    hu = doubled(_fat_and_muscle(muscle, patient, rng))
    skin_distance = doubled(outline)
    # Skin is 1.8 mm thick. It is also painted outside the body, where air replaces it below.
    rim = coverage(-(skin_distance + 1.8), 0.8)
    hu += (SKIN_HU - hu) * rim
    around = _surroundings(half, patient, outline)
    hu += (doubled(around) - hu) * coverage(-skin_distance, 0.7)
    return hu


def _outline(at: Plane, patient: Patient, position: Position) -> Array:
    """Distance to the skin: a bent oval, with the chin in upper and shoulders in lower slices."""
    # The key holds no slice, so every slice draws the same numbers and the outline depends only on
    # the height.
    rng = stream(TISSUE, *patient.key)
    sizes = (2.2, 1.5, 1.0, 0.6)
    waves = tuple((float(rng.normal(0, size)), float(rng.uniform(0, 6.28))) for size in sizes)
    body = _oval(at, patient, waves)
    height = position.level + position.t
    jaw = float(np.clip(3.2 - height, 0, 2))
    if jaw > 0:
        body = unite(body, _chin(at) + 4 * (2 - jaw), 22.0)
    shoulder = float(np.clip(height - 4.6 + rng.normal(0, 0.3), 0, 2.4))
    if shoulder > 0:
        radii = (34 + 26 * shoulder, 26 + 9 * shoulder)
        right, left = (
            ellipse(at, (side * (48 + 26 * shoulder), 30.0 + rng.normal(0, 5)), radii)
            for side in (-1, 1)
        )
        body = unite(body, unite(right, left), 28.0)
    return body


@lru_cache(maxsize=2)
def _oval(at: Plane, patient: Patient, waves: tuple[Point, ...]) -> Array:
    """Distance to the neck without chin and shoulders, the same for all slices of a patient."""
    width, depth = patient.neck_radii
    return wavy(at, (0.0, 2.0 + 0.03 * depth), (width, depth), waves)


@lru_cache(maxsize=2)
def _chin(at: Plane) -> Array:
    """Distance to the part that the jaw adds to the outline, at its full size."""
    return ellipse(at, (0.0, -38.0), (52.0, 44.0), 3)


def _muscles(at: Plane, patient: Patient, rng: Rng, outline: Array) -> Array:
    """Share of muscle in each pixel of the half grid, 0..1; the rest is fat."""
    share = np.zeros_like(outline)
    # Muscles are drawn only here. The fat is thicker than the roughness of its inner border, so no
    # muscle is farther out.
    body = bounds(outline < 4)
    border, is_fatty = _cells(at, body, patient, rng)
    # The width of the fat planes varies. Where a plane is closed, the muscles on both sides look
    # like one.
    rough = rough_field(patient, rng, 12)[body]
    width = np.float32(patient.plane_mm) * np.clip(np.float32(0.4) + np.float32(1.5) * rough, -1, 3)
    muscle = coverage(width - border, 1.3)
    muscle = np.maximum(muscle, np.float32(0.15)) * ~is_fatty
    envelope = outline[body] + np.float32(patient.fat_mm + 2)
    # The fat under the skin thickens towards the nape.
    envelope += np.maximum(at.y[body], 0) * np.float32(0.012 * patient.fat_mm)
    share[body] = muscle * coverage(envelope + rough_field(patient, rng, 24)[body], 1.4)
    return share


def _cells(
    at: Plane, body: Window, patient: Patient, rng: Rng
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Distance (mm) to the border of the nearest muscle's cell, and whether that cell is fat."""

    def bent(ticks: Array) -> Array:
        broad, fine = rough_field(patient, rng, 12)[body], rough_field(patient, rng, 24)[body]
        moved: Array = ticks[body] + np.float32(1.9) * (2 * broad + fine)
        return moved

    x, y = bent(at.x), bent(at.y)
    # The two nearest middles are enough, because a border is where both are equally near.
    nearest = np.full(x.shape, np.float32(1e9))
    second, nearest_fat = nearest.copy(), nearest.copy()
    away, other = np.empty_like(x), np.empty_like(x)
    scale = patient.neck_radii[0] / 66.0
    for muscle in load_table("muscles.csv"):
        for side in (-1, 1):
            cx, cy = np.array([side * muscle["x"], muscle["y"]]) * scale + rng.normal(0, 1.8, 2)
            # `away` is the squared distance minus x² + y², which is the same for all cells.
            np.multiply(x, np.float32(-2 * cx), out=away)
            away += np.multiply(y, np.float32(-2 * cy), out=other)
            away += np.float32(cx * cx + cy * cy - muscle["squared_radius"])
            np.minimum(second, np.maximum(nearest, away, out=other), out=second)
            np.minimum(nearest, away, out=nearest)
            if rng.uniform() < muscle["fat_share"]:
                np.minimum(nearest_fat, away, out=nearest_fat)
    # The squared distances to two middles differ by 2 × the distance between the middles (about
    # 13 mm) × the distance from the border.
    border = (second - nearest) * np.float32(1 / 26.0)
    return border, nearest_fat <= nearest


def _fat_and_muscle(muscle: Array, patient: Patient, rng: Rng) -> Array:
    """Hounsfield units of the soft tissue: fat with streaks of septa, and marbled muscle."""
    septa = np.abs(rough_field(patient, rng, 48))
    fat = np.float32(FAT_HU) + np.float32(55) * np.clip(np.float32(0.35) - septa, 0, 1)
    fat += 8 * rough_field(patient, rng, 24)
    marbling = 4 * rough_field(patient, rng, 48) + 4 * rough_field(patient, rng, 12)
    blended: Array = fat + (np.float32(patient.muscle_hu) + marbling - fat) * muscle
    return blended


def _surroundings(at: Plane, patient: Patient, outline: Array) -> Array:
    """HU outside the body: air, folds of a sheet around the skin, and the head-rest's shell."""
    folds, plate, plate_hu = _sheet_and_shell(at, patient)
    hu = np.full(at.x.shape, np.float32(AIR_HU))
    for height, wave, cross_wave, value in folds:
        fold = outline - height - wave - cross_wave
        hu += value * coverage(np.abs(fold) - 0.3, 1.0)
    around: Array = hu + (plate_hu - hu) * plate
    return around


@lru_cache(maxsize=2)
def _sheet_and_shell(
    at: Plane, patient: Patient
) -> tuple[list[tuple[float, Array, Array, np.float32]], Array, float]:
    """Draw the sheet and the head-rest around the patient, the same for all slices.

    Returns:
        The folds of the sheet, the share of each pixel that the head-rest's shell covers, and the
        shell's HU. A fold is its height above the skin (mm), two waves added to the height, and HU.
    """
    # 1000 stands in the key instead of a slice's index, so that all slices draw the same numbers.
    rng = stream(TISSUE, *patient.key, 1000)
    folds = []
    for _ in range(int(rng.integers(1, 4))):
        height, k, phase = rng.uniform(3, 16), rng.uniform(0.02, 0.07), rng.uniform(0, 6.28)
        waves = 4 * np.sin(at.x * k + phase), 2 * np.sin(at.y * 2.3 * k)
        folds.append((height, *waves, np.float32(rng.uniform(60, 220))))
    shell = ellipse(at, (rng.normal(0, 6), -6.0), (rng.uniform(92, 104), rng.uniform(92, 104)))
    angle = np.arctan2(at.y, at.x)
    beat = np.sin(5 * angle + rng.uniform(0, 6)) + 0.7 * np.sin(13 * angle + rng.uniform(0, 6))
    gaps = beat < rng.uniform(0.2, 1.3)
    plate = coverage(np.abs(shell) - 0.7, 0.9) * gaps * (at.y > -70)
    return folds, plate, rng.uniform(-200, 250)
