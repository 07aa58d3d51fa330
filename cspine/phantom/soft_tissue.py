"""The neck around the spine at one height, in Hounsfield units: skin, fat, muscle, table, air.

The frame is the vertebra's (origin at the canal's front, x left, y back, mm). Muscles are the
cells of a bent Voronoi diagram about hand-placed middles; the fat planes are the cells' borders.
Smooth fields are drawn on a grid of half the pixels and doubled, for speed. Knows no labels.
"""

from __future__ import annotations

import numpy as np

from cspine.phantom.patient import TISSUE, Patient, Place, Rng, stream
from cspine.phantom.shapes import Array, Plane, coverage, ellipse, unite, wavy

AIR_HU, FAT_HU, SKIN_HU = -1000.0, -100.0, 45.0
# One side's muscles (x, y, squared radius as a weight); the other is mirrored and jittered.
_MUSCLES = (
    (6.0, -21.0, 0.0), (22.0, -13.0, 0.0), (33.0, -3.0, 0.0), (45.0, -17.0, 60.0),
    (30.0, 12.0, 0.0), (12.0, 24.0, 0.0), (10.0, 37.0, 0.0), (24.0, 30.0, 40.0),
    (37.0, 27.0, 40.0), (18.0, 50.0, 60.0), (44.0, 45.0, 60.0), (52.0, 10.0, 0.0),
    (14.0, -52.0, 0.0), (30.0, -44.0, 0.0), (30.0, -25.0, 0.0), (9.0, -33.0, 0.0),
)  # fmt: skip
_OFTEN_FAT = (11, 14)  # posterior triangle and the carotid space


def doubled(half: Array) -> Array:
    """Twice the rows and columns, linearly between the middles of the old pixels."""
    for axis in (0, 1):
        values = np.moveaxis(half, axis, 0)
        padded = np.concatenate([values[:1], values, values[-1:]])
        near = np.float32(0.75) * values
        grown = np.empty((2 * values.shape[0], values.shape[1]), np.float32)
        grown[0::2] = near + np.float32(0.25) * padded[:-2]
        grown[1::2] = near + np.float32(0.25) * padded[2:]
        half = np.moveaxis(grown, 0, axis)
    return half


def rough_field(rng: Rng, shape: tuple[int, int], cells: int) -> Array:
    """Smooth noise of mean 0 and standard deviation near 1, with about `cells` bumps a side."""
    field = rng.standard_normal((cells, cells), dtype=np.float32)
    while field.shape[0] < max(shape):
        field = doubled(field)
    return field[: shape[0], : shape[1]] * np.float32(1.6)


def draw_neck(half: Plane, patient: Patient, place: Place) -> Array:
    """Skin, fat and muscle, HU float32 (2 H, 2 W), from the plane of the half grid (H, W)."""
    rng = stream(TISSUE, *patient.key, place.index)
    shape = half.x.shape
    outline = _outline(half, patient, place)
    muscle = _muscles(half, patient, rng, outline)
    hu = doubled(_fat_and_muscle(muscle, patient, rng, shape))
    skin_distance = doubled(outline)
    rim = coverage(-(skin_distance + 1.8), 0.8)
    hu += (SKIN_HU - hu) * rim
    around = _surroundings(half, patient, outline)
    hu += (doubled(around) - hu) * coverage(-skin_distance, 0.7)
    return hu


def _outline(at: Plane, patient: Patient, place: Place) -> Array:
    """Distance to the skin: a bent oval, widening to the shoulders at C6 and C7."""
    rng = stream(TISSUE, *patient.key)
    waves = [(float(rng.normal(0, a)), float(rng.uniform(0, 6.28))) for a in (2.2, 1.5, 1.0, 0.6)]
    width, depth = patient.neck_radii
    height = place.level + place.t
    body = wavy(at, (0.0, 2.0 + 0.03 * depth), (width, depth), waves)
    jaw = float(np.clip(3.2 - height, 0, 2))
    if jaw > 0:
        body = unite(body, ellipse(at, (0.0, -38.0), (52.0, 44.0), 2.4) + 4 * (2 - jaw), 22.0)
    shoulder = float(np.clip(height - 4.6 + rng.normal(0, 0.3), 0, 2.4))
    if shoulder > 0:
        sides = (ellipse(at, (side * (48 + 26 * shoulder), 30.0 + rng.normal(0, 5)),
                         (34 + 26 * shoulder, 26 + 9 * shoulder)) for side in (-1, 1))  # fmt: skip
        body = unite(body, unite(*sides), 28.0)
    return body


def _muscles(at: Plane, patient: Patient, rng: Rng, outline: Array) -> Array:
    """Share of muscle against fat, 0..1, on the half grid."""
    shape = at.x.shape
    bend = np.float32(2.6)
    bent = Plane(
        at.x + bend * rough_field(rng, shape, 12), at.y + bend * rough_field(rng, shape, 12)
    )
    nearest = np.full(shape, np.float32(1e9))
    second, owner = nearest.copy(), np.zeros(shape, np.int8)
    scale = patient.neck_radii[0] / 66.0
    fatty = []
    for number, (x, y, weight) in enumerate(_MUSCLES):
        for side in (-1, 1):
            jitter = rng.normal(0, 1.8, 2)
            cx, cy = side * x * scale + jitter[0], y * scale + jitter[1]
            away = (bent.x - np.float32(cx)) ** 2 + (bent.y - np.float32(cy)) ** 2
            away -= np.float32(weight)
            closer = away < nearest
            second = np.where(closer, nearest, np.minimum(second, away))
            nearest = np.where(closer, away, nearest)
            label = 2 * number + (side > 0)
            owner[closer] = label
            if rng.uniform() < (0.7 if number in _OFTEN_FAT else 0.02):
                fatty.append(label)
    border = (second - nearest) / np.float32(26.0)  # about the distance to the cell's border, mm
    width = patient.plane_mm * (0.55 + 0.45 * rough_field(rng, shape, 9))
    muscle = np.clip((border - width) * np.float32(0.9) + 0.5, 0, 1)
    muscle *= np.isin(owner, fatty, invert=True)
    envelope = (
        outline
        + np.float32(patient.fat_mm + 2)
        + np.maximum(at.y, 0) * np.float32(0.012 * patient.fat_mm)
    )
    return muscle * coverage(envelope + rough_field(rng, shape, 20), 1.4)


def _fat_and_muscle(muscle: Array, patient: Patient, rng: Rng, shape: tuple[int, int]) -> Array:
    """Hounsfield units of the soft tissue: streaky fat with septa, and marbled muscle."""
    septa = np.abs(rough_field(rng, shape, 48))
    fat = FAT_HU + np.float32(55) * np.clip(0.35 - septa, 0, 1) + 8 * rough_field(rng, shape, 24)
    marbling = np.float32(4) * rough_field(rng, shape, 64) + 3 * rough_field(rng, shape, 10)
    return fat + (patient.muscle_hu + marbling - fat) * muscle


def _surroundings(at: Plane, patient: Patient, outline: Array) -> Array:
    """Air with the head-rest's shell and folds of a sheet, the same in all slices."""
    rng = stream(TISSUE, *patient.key, 1000)
    hu = np.full(at.x.shape, np.float32(AIR_HU))
    for _ in range(int(rng.integers(1, 4))):
        height, k, phase = rng.uniform(3, 16), rng.uniform(0.02, 0.07), rng.uniform(0, 6.28)
        fold = outline - height - 4 * np.sin(at.x * k + phase) - 2 * np.sin(at.y * 2.3 * k)
        hu += np.float32(rng.uniform(60, 220)) * coverage(np.abs(fold) - 0.3, 1.0)
    shell = ellipse(at, (rng.normal(0, 6), -6.0), (rng.uniform(92, 104), rng.uniform(92, 104)), 2.3)
    gaps = np.sin(np.arctan2(at.y, at.x) * 9 + rng.uniform(0, 6)) < rng.uniform(0.3, 0.95)
    plate = coverage(np.abs(shell) - 0.7, 0.9) * gaps * (at.y > -70)
    return hu + (rng.uniform(-200, 250) - hu) * plate
