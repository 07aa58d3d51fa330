"""Hard negatives: structures that resemble a fracture and are equally frequent in both classes.

Each differs from a fracture in a way that a radiologist can name. Canals and synchondroses are
smooth and have a cortex along their edges, the basivertebral vein enters at the middle of the
body's back, and a motion artefact also shifts skin and muscle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cspine.phantom.anatomy.bone import DrawnBone
from cspine.phantom.anatomy.shapes import Plane, Point, Window, box_about, coverage, polyline
from cspine.phantom.anatomy.vertebra import Vertebra, lamina_end, pillar_centre
from cspine.phantom.config import SIDE_PX
from cspine.phantom.patient import MIMICS, Patient, Position, Rng, stream

MIMIC_SHARE = 0.75  # of the slices of either class
_RIM_HU = 850.0
_CANAL_HU = 10.0  # fat and blood


@dataclass(frozen=True)
class HardNegative:
    """A slice's hard negative.

    Attributes:
        name: kind of the structure; empty if the slice has none.
        row: first row that a motion artefact shifts; all rows below it are shifted too.
        shift_px: shift of these rows to the right, negative to the left; 0 without an artefact.
    """

    name: str = ""
    row: int = 0
    shift_px: int = 0

    def move(self, picture: npt.NDArray[np.float32 | np.bool_]) -> None:
        """Apply the motion artefact, if there is one, to a picture or mask (512, 512), in place.

        It must be applied last, after the fracture is drawn. The artefact shifts muscle and skin
        as well, which distinguishes it from a fracture.
        """
        if not self.shift_px:
            return
        # The shift sets in over three rows, from none to the full shift.
        above = self.row - 2
        rows = np.arange(above, len(picture), dtype=np.float32)[:, None]
        share = np.clip((rows - self.row) / 3 + np.float32(0.5), 0, 1)
        still = picture[above:].astype(np.float32)
        moved = still + (np.roll(still, self.shift_px, axis=1) - still) * share
        picture[above:] = moved if picture.dtype != np.bool_ else moved >= 0.5


def draw_hard_negative(
    bone: DrawnBone, patient: Patient, position: Position, v: Vertebra
) -> HardNegative:
    """Paint this slice's hard negative, if it has one, on `bone.spot`, and return it.

    A motion artefact is only returned; `HardNegative.move` applies it later.
    """
    rng = stream(MIMICS, *patient.key, position.index)
    # The share is the same in both classes; otherwise, hard negatives would predict the class.
    if rng.uniform() > MIMIC_SHARE:
        return HardNegative()
    names = ["nutrient canal", "motion step"]
    # C1 has no body and therefore no basivertebral vein and no synchondroses.
    if v.level:
        names += ["synchondrosis"]
        # The vein leaves the body at half the body's height, so slices far from there do not
        # show it.
        names += ["basivertebral vein"] * 2 if 0.3 < position.t < 0.8 else ["nutrient canal"]
    name = str(rng.choice(names))
    if name == "motion step":
        return HardNegative(name, *_draw_motion(rng, patient))
    for points, width in _PATHS[name](v, rng):
        _draw_canal(bone, points, width, name == "synchondrosis")
    return HardNegative(name)


def _draw_canal(bone: DrawnBone, points: list[Point], width: float, is_rimmed: bool) -> None:
    """Paint a smooth channel with a dense rim inside the bone; it narrows towards both ends."""
    # The margin holds the rim and its soft edge.
    box = _box_of(bone.spot.at, points, width / 2 + 1.2)
    away, along = polyline(bone.spot.at.within(box), points)
    taper = np.clip(6 * np.minimum(along + 0.1, 1 - along), 0.25, 1)
    half = np.float32(width / 2) * taper
    rim = coverage(away - half - np.float32(0.7 if is_rimmed else 0.5), 0.7) * bone.share[box]
    hole = coverage(away - half, bone.spot.softness_mm) * bone.share[box]
    # Thin channels fill only a part of their pixels.
    hole *= np.clip(2 * half / np.float32(bone.spot.softness_mm), 0, 1)
    hu = bone.spot.hu[box]
    # The rim only brightens, so cortex that is denser than the rim stays unchanged.
    hu += np.maximum(np.float32(_RIM_HU) - hu, 0) * rim * np.float32(0.75)
    hu += (np.float32(_CANAL_HU) - hu) * hole


def _box_of(at: Plane, points: list[Point], reach: float) -> Window:
    """Rows and columns of a box that holds everything within `reach` mm of the path's points."""
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    middle, half = (low + high) / 2, (high - low) / 2 + reach
    return box_about(at, (middle[0], middle[1]), (float(half[0]), float(half[1])))


def _smooth(start: Point, end: Point, bow: float, count: int = 6) -> list[Point]:
    """Points on a gentle arc from `start` to `end` whose middle is `bow` mm off the chord."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(float(np.hypot(dx, dy)), 1e-6)
    shares = np.linspace(0, 1, count)
    out = 4 * bow * shares * (1 - shares)
    return [
        (float(start[0] + s * dx - o * dy / length), float(start[1] + s * dy + o * dx / length))
        for s, o in zip(shares, out, strict=True)
    ]


def _nutrient_canals(v: Vertebra, rng: Rng) -> list[tuple[list[Point], float]]:
    """One or two channels that enter the side of the body, or a pillar, and end inside the bone."""
    canals = []
    for _ in range(int(rng.integers(1, 3))):
        side = int(rng.choice([-1, 1]))
        if v.level and rng.uniform() < 0.5:
            start = (side * 0.52 * v.body[0], -v.body[1] * rng.uniform(0.3, 0.8))
            end = (side * rng.uniform(0.05, 0.2) * v.body[0], -v.body[1] * rng.uniform(0.3, 0.7))
        else:
            x, y = pillar_centre(v, side) if v.level else (side * 18.0, -4.0)
            angle, reach = rng.uniform(0, 6.28), rng.uniform(4, 7)
            start = (x + reach * np.cos(angle), y + reach * np.sin(angle))
            end = (x - 2 * np.cos(angle), y - 2 * np.sin(angle))
        canals.append((_smooth(start, end, rng.normal(0, 1)), float(rng.uniform(0.4, 1.6))))
    return canals


def _basivertebral_vein(v: Vertebra, rng: Rng) -> list[tuple[list[Point], float]]:
    """A Y-shaped channel in the middle of the body that opens into the spinal canal."""
    fork = (float(rng.normal(0, 0.5)), -v.body[1] * rng.uniform(0.25, 0.4))
    width = float(rng.uniform(0.8, 2.2))
    paths = [(_smooth((0.0, 0.5), fork, 0.0), width)]
    for side in (-1, 1):
        end = (side * v.body[0] * rng.uniform(0.15, 0.32), fork[1] - rng.uniform(2, 6))
        paths.append((_smooth(fork, end, rng.normal(0, 0.8)), 0.7 * width))
    return paths


def _synchondroses(v: Vertebra, rng: Rng) -> list[tuple[list[Point], float]]:
    """Remains of a growth seam, in front of both pedicles or between the laminae."""
    width = float(rng.uniform(0.4, 1.4))
    if rng.uniform() < 0.3:
        x, y = lamina_end(v)
        return [(_smooth((x, y - 4), (x + rng.normal(0, 0.6), y + 4), rng.normal(0, 0.3)), width)]
    x = 0.36 * v.body[0]
    paths = []
    for side in (-1, 1):
        path = _smooth((side * x * 0.9, -0.75 * v.body[1]), (side * (x + 2), 1.0), side * 1.0)
        paths.append((path, width * float(rng.uniform(0.8, 1.2))))
    return paths


_PATHS = {
    "nutrient canal": _nutrient_canals,
    "basivertebral vein": _basivertebral_vein,
    "synchondrosis": _synchondroses,
}


def _draw_motion(rng: Rng, patient: Patient) -> tuple[int, int]:
    """Draw the row from which the picture is shifted, and the shift in px, negative to the left."""
    row = int(np.clip((patient.middle[1] + rng.uniform(-0.04, 0.08)) * SIDE_PX, 8, 500))
    shift = int(rng.choice([-1, 1]) * max(1, round(rng.uniform(0.5, 1.8) / patient.spacing_mm)))
    return row, shift
