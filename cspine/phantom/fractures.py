"""Fractures: jagged, open gaps through bone, with the bone on one side displaced.

A gap is filled with blood and cuts through the cortex. Its edges are ragged and have no cortex,
which distinguishes a fracture from canals and joints. A thick slice smears a fracture that runs
obliquely, as in a scanner. The fracture is drawn on a copy of the twin (the same slice without its
fracture), so that the two slices differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cspine.phantom.anatomy.bone import DrawnBone
from cspine.phantom.anatomy.shapes import Array, Plane, Point, Window, box_about, polyline
from cspine.phantom.anatomy.vertebra import Vertebra, lamina_end, pillar_centre, spinous_end
from cspine.phantom.config import PhantomConfig
from cspine.phantom.patient import FRACTURE, Patient, Position, Rng, stream

# A path before it is bent: middle, direction (rad, 0 to the patient's left), half length in mm.
Course = tuple[Point, float, float]
# HU of fresh blood, which is about that of soft tissue.
_GAP_HU = 45.0
# Fractures are drawn until 5 mm of one are visible in the slice's bone; after 40 draws the longest
# visible one is taken.
_TRIES, _ENOUGH_MM = 40, 5.0
# Least reach of a mask to either side: it covers the pixels that a hairline crosses.
_MASK_REACH_PX = 0.6


@dataclass(frozen=True)
class Fracture:
    """The truth of one fracture. Lengths in mm; `mask` is bool (512, 512), true on the gap.

    `visible_area_mm2` is the area of the gap within this slice's bone. `visible_length_mm` is that
    area divided by the width, which is the length that a gap of even width would have. Both count
    the two paths of a double fracture together.
    """

    kind: str
    width_mm: float
    displacement_mm: float
    visible_area_mm2: float
    visible_length_mm: float
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Gap:
    """One path on the vertebra's window.

    At each pixel: the share that the gap covers, the distance from the path in mm, and the side of
    the path (-1 or 1). `normal` is the unit vector across the path, towards the positive side.
    """

    share: Array
    away: Array
    side: Array
    normal: Point


def break_bone(
    hu: Array,
    bone: DrawnBone,
    window: Window,
    patient: Patient,
    position: Position,
    vertebra: Vertebra,
    config: PhantomConfig,
) -> tuple[Array, Fracture]:
    """Return a copy of the twin's ideal picture `hu` (512, 512) with a fracture, and its truth."""
    rng = stream(FRACTURE, *patient.key, position.index)
    low, high = np.log(config.min_width_mm), np.log(config.max_width_mm)
    # Log-uniform, so that hairlines, which are hard to see, are as frequent as wide gaps.
    width = float(np.exp(rng.uniform(low, high)))
    displacement = float(width * rng.uniform(0, 0.9))
    # Between the slice's two faces, an oblique plane shifts by thickness × tangent of its angle.
    smear = patient.thickness_mm * float(np.tan(abs(rng.normal(0, np.radians(22)))))
    kind, gaps = _most_visible(bone, vertebra, width, min(smear, 1.5), patient, rng)
    broken = hu.copy()
    view = broken[window]
    for gap in gaps:
        _displace(view, gap, displacement, patient.spacing_mm, patient.rotation)
    open_share = np.max([gap.share for gap in gaps], axis=0) * bone.share
    filling = _fragments(bone, open_share, width, patient, rng)
    view += (filling - view) * open_share
    mask = np.zeros(hu.shape, bool)
    reach = np.float32(max(width / 2, _MASK_REACH_PX * patient.spacing_mm))
    # Only pixels with an open gap: `away` would add a round cap at each end of a path.
    near = np.min([np.where(g.share > 0, g.away, np.inf) for g in gaps], axis=0) <= reach
    # The mask is limited to bone, because the part of a path in muscle is not visible.
    mask[window] = near & (bone.share > 0.5)
    area = float(open_share.sum()) * patient.spacing_mm**2
    truth = Fracture(kind, width, displacement, area, area / width, mask)
    return broken, truth


def _most_visible(
    bone: DrawnBone, v: Vertebra, width: float, smear: float, patient: Patient, rng: Rng
) -> tuple[str, list[_Gap]]:
    """Draw fractures until one crosses enough bone; return kind and gaps of the longest one."""
    best: tuple[float, str, list[_Gap]] = (-1.0, "", [])
    for _ in range(_TRIES):
        kind, courses = _draw_courses(v, rng)
        gaps = [_open_gap(bone.spot.at, c, width, smear, patient.spacing_mm, rng) for c in courses]
        shares = np.max([gap.share for gap in gaps], axis=0) * bone.share
        length = float(shares.sum()) * patient.spacing_mm**2 / width
        if length > best[0]:
            best = (length, kind, gaps)
        if length >= _ENOUGH_MM:
            break
    return best[1], best[2]


def _draw_courses(v: Vertebra, rng: Rng) -> tuple[str, list[Course]]:
    """Draw a kind of fracture that occurs at this level, and its paths."""
    kinds = _KINDS_OF_LEVEL[min(v.level, 2)]
    name = str(rng.choice(list(kinds)))
    return name, kinds[name](v, rng)


# A ring breaks in at least two places, so each of C1's two arches gets a path.
def _jefferson(v: Vertebra, rng: Rng) -> list[Course]:
    side = rng.choice([-1, 1])
    x, depth = 0.5 * v.canal[0] * 0.75, v.canal[1]
    middle = (side * x * rng.uniform(0.3, 1), depth * 0.95)
    back = (middle, 1.57 + side * rng.uniform(-0.3, 0.9), 6.0)
    front = ((side * rng.uniform(3, 11), -14.5), 1.57 + rng.normal(0, 0.4), 6.0)
    return [back, front]


def _lateral_mass(v: Vertebra, rng: Rng) -> list[Course]:
    side = rng.choice([-1, 1])
    return [((side * 18.0, -3.0), float(rng.uniform(0, 3.14)), 10.0)]


# The path runs through the dens if the slice shows it, and through the body in slices below it
# (type III of Anderson and D'Alonzo, J Bone Joint Surg 1974).
def _dens(v: Vertebra, rng: Rng) -> list[Course]:
    return [((float(rng.normal(0, 1)), -6.5 + float(rng.normal(0, 1.5))), rng.normal(0, 0.5), 8.0)]


# Both sides get a path, because a traumatic spondylolisthesis of C2 breaks the pars
# interarticularis on both sides.
def _hangman(v: Vertebra, rng: Rng) -> list[Course]:
    courses: list[Course] = []
    for side in (-1, 1):
        middle = (side * (0.5 * v.body[0] + rng.uniform(4, 8)), rng.uniform(0, 3))
        courses.append((middle, side * (0.9 + rng.normal(0, 0.3)), 9.0))
    return courses


def _body(v: Vertebra, rng: Rng) -> list[Course]:
    """A sagittal or oblique path through the body, or one that breaks a corner off its front."""
    if rng.uniform() < 0.65:
        middle = (float(rng.normal(0, 0.2)) * v.body[0], -0.5 * v.body[1])
        return [(middle, 1.57 + float(rng.normal(0, 0.5)), 0.8 * v.body[1])]
    side = rng.choice([-1, 1])
    middle = (side * 0.25 * v.body[0], -0.72 * v.body[1])
    return [(middle, -side * 0.75 + float(rng.normal(0, 0.3)), 9.0)]


def _lamina(v: Vertebra, rng: Rng) -> list[Course]:
    side = int(rng.choice([-1, 1]))
    start, end, share = pillar_centre(v, side), lamina_end(v), rng.uniform(0.35, 0.85)
    middle = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
    # At a right angle to the lamina, because a break crosses the lamina and does not follow it.
    across = np.arctan2(end[1] - start[1], end[0] - start[0]) + 1.57
    return [(middle, float(across + rng.normal(0, 0.35)), 6.0)]


def _pillar(v: Vertebra, rng: Rng) -> list[Course]:
    centre = pillar_centre(v, int(rng.choice([-1, 1])))
    return [(centre, float(rng.uniform(0, 3.14)), 9.0)]


def _pedicle(v: Vertebra, rng: Rng) -> list[Course]:
    side = int(rng.choice([-1, 1]))
    x, y = pillar_centre(v, side)
    middle = ((0.5 * v.body[0] * side + x) / 2, (y - 2 - 0.2 * v.body[1]) / 2)
    return [(middle, 1.57 - side * 0.5 + float(rng.normal(0, 0.3)), 7.0)]


def _transverse(v: Vertebra, rng: Rng) -> list[Course]:
    side = int(rng.choice([-1, 1]))
    middle = (side * v.wings[(side + 1) // 2] * rng.uniform(0.72, 0.9), -4.0)
    return [(middle, 1.57 + float(rng.normal(0, 0.4)), 7.0)]


def _spinous(v: Vertebra, rng: Rng) -> list[Course]:
    start, end, share = lamina_end(v), spinous_end(v), rng.uniform(0.2, 0.9)
    middle = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
    return [(middle, float(rng.normal(0, 0.5)), 6.0)]


_Draw = Callable[[Vertebra, Rng], list[Course]]
_BELOW_C2: dict[str, _Draw] = {
    "body": _body,
    "lamina": _lamina,
    "facet": _pillar,
    "pedicle": _pedicle,
    "transverse process": _transverse,
    "spinous process": _spinous,
}
_KINDS_OF_LEVEL: tuple[dict[str, _Draw], ...] = (
    {"jefferson": _jefferson, "lateral mass": _lateral_mass},
    {"dens or body": _dens, "hangman": _hangman, "lamina": _lamina, "spinous process": _spinous},
    _BELOW_C2,
)


def _open_gap(
    at: Plane, course: Course, width: float, smear: float, spacing: float, rng: Rng
) -> _Gap:
    """Bend the course into a jagged path and open a gap along it that closes towards both ends."""
    (x, y), angle, half = course
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    points = _jagged(course, rng)
    pitch, phase = np.float32(rng.uniform(20, 40)), np.float32(rng.uniform(0, 6))
    shape = at.x.shape
    share, away, side = (np.full(shape, np.float32(fill)) for fill in (0, np.inf, 0))
    # The box reaches a little farther than `_displace` does.
    box = box_about(at, (x, y), (half + 13, half + 13))
    here = at.within(box)
    if here.x.size:
        away[box], along = polyline(here, points)
        # The gap is fully open from about 1.5 mm off either end.
        ends = np.clip(np.minimum(along, 1 - along) * np.float32(4 * half / 3), 0, 1)
        opening = np.float32(width) * ends * (1 + np.float32(0.18) * np.sin(pitch * along + phase))
        # The blur is at least a pixel wide, so that even a hairline covers its share of a pixel.
        share[box] = _strip_share(away[box], opening, max(spacing, smear))
        side[box] = np.sign(cos * (here.y - np.float32(y)) - sin * (here.x - np.float32(x)))
    return _Gap(share, away, side, (-sin, cos))


def _jagged(course: Course, rng: Rng) -> list[Point]:
    """Points along the course, moved sideways by a random walk of about a millimetre."""
    (x, y), angle, half = course
    steps = np.linspace(-half, half, 8)
    rough = np.cumsum(rng.normal(0, 0.5, steps.size))
    # The walk's drift is removed, so that the path begins and ends near the course.
    rough += rng.normal(0, 0.35, steps.size) - np.linspace(rough[0], rough[-1], steps.size)
    cos, sin = np.cos(angle), np.sin(angle)
    return [
        (float(x + cos * s - sin * r), float(y + sin * s + cos * r))
        for s, r in zip(steps, rough, strict=True)
    ]


def _strip_share(away: Array, width: Array, blur_mm: float) -> Array:
    """Share of a box `blur_mm` wide that a strip covers.

    `width` is the width of the strip and `away` the distance between the middles of box and strip,
    both in mm.
    """
    blur, half = np.float32(blur_mm), width * np.float32(0.5)
    overlap = np.minimum(away + blur / 2, half) - np.maximum(away - blur / 2, -half)
    share: Array = np.clip(overlap / blur, 0, 1)
    return share


def _displace(view: Array, gap: _Gap, shift_mm: float, spacing: float, rotation: float) -> None:
    """Move the bone on the path's positive side along the path, less with distance from it.

    The shift falls off as a Gaussian, to 1/e at 5 mm from the path.
    """
    # A shift of less than a sixth of a pixel is left out, because resampling would only blur.
    if shift_mm < 0.05:
        return
    fade = np.exp(-((gap.away / np.float32(5.0)) ** 2)) * (gap.side > 0) * (gap.away < 12)
    # A shift along the path makes a step in the cortex; one across it could close the gap.
    dx, dy = gap.normal[1] * shift_mm / spacing, -gap.normal[0] * shift_mm / spacing
    cos, sin = np.cos(rotation), np.sin(rotation)
    columns, rows = (cos * dx - sin * dy) * fade, (sin * dx + cos * dy) * fade
    moved = fade > 0.01
    where = np.nonzero(moved)
    # Each pixel takes its value from where the bone was before, so the shift is subtracted.
    source = np.stack([where[0] - rows[moved], where[1] - columns[moved]]).astype(np.float32)
    view[moved] = ndimage.map_coordinates(view, source, order=1, mode="nearest")


def _fragments(bone: DrawnBone, share: Array, width: float, patient: Patient, rng: Rng) -> Array:
    """HU of the gap's filling: blood, with islands of splintered bone in wide gaps."""
    filling = np.full(share.shape, np.float32(_GAP_HU))
    # A narrower gap has no room for splinters.
    if width < 1.0:
        return filling
    spots = np.argwhere(share > 0.7)
    for _ in range(int(rng.poisson(2.5))) if len(spots) else ():
        row, column = spots[rng.integers(len(spots))]
        radius = rng.uniform(0.3, 0.35 * width) / patient.spacing_mm
        rows, columns = np.ogrid[: share.shape[0], : share.shape[1]]
        inside = np.clip(radius - np.hypot(rows - row, (columns - column) / 1.4) + 0.5, 0, 1)
        # A splinter consists of marrow and cortex, so its HU lies between theirs.
        filling += (np.float32(700) - filling) * inside.astype(np.float32)
    return filling
