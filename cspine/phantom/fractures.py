"""Fractures: jagged paths through bone, opened by a width, the bone beside them displaced.

A path's gap holds blood and cuts straight through the cortex, so it has no cortex of its own and
its edges are ragged: that is what tells it from canals and joints. A fracture that runs obliquely
through a thick slice is smeared by the slice, as in a scanner. Works on the twin's drawn picture,
so nothing but the fracture can differ.
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

# A path before it is bent: middle, direction (rad; 0 runs to the left), half length in mm.
Course = tuple[Point, float, float]
# Fresh blood; soft tissue would look the same.
_GAP_HU = 45.0
# A label of fracture must have something to see: one that misses the slice's bone is drawn again,
# as often as it takes to see 5 mm of it, and after many draws to see any.
_TRIES, _ENOUGH_MM = 40, 5.0
# A hairline's mask still covers the pixels that it crosses.
_MASK_REACH_PX = 0.6


@dataclass(frozen=True)
class Fracture:
    """The truth of one fracture. Lengths in mm; `mask` is bool (512, 512), true on the gap.

    `visible_area_mm2` is the gap's within this slice's bone; `visible_length_mm` that area over the
    width: the length of an even gap, both paths of a double fracture together.
    """

    kind: str
    width_mm: float
    displacement_mm: float
    visible_area_mm2: float
    visible_length_mm: float
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Gap:
    """One path on the vertebra's window: share of the gap, distance from the path, and its side."""

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
    """Return the twin's ideal picture `hu` (512, 512) with a fracture drawn, and its truth."""
    rng = stream(FRACTURE, *patient.key, position.index)
    low, high = np.log(config.min_width_mm), np.log(config.max_width_mm)
    # Log-uniform: as many hairlines as wide gaps, since it is the former that are hard.
    width = float(np.exp(rng.uniform(low, high)))
    displacement = float(width * rng.uniform(0, 0.9))
    # A leaning plane moves by thickness × tangent from one face of the slice to the other.
    smear = patient.thickness_mm * float(np.tan(abs(rng.normal(0, np.radians(22)))))
    kind, gaps = _most_visible(bone, vertebra, width, min(smear, 1.5), patient, rng)
    # A copy of the twin: only what follows can differ between the two.
    broken = hu.copy()
    view = broken[window]
    for gap in gaps:
        _displace(view, gap, displacement, patient.spacing_mm, patient.rotation)
    open_share = np.max([gap.share for gap in gaps], axis=0) * bone.share
    filling = _fragments(bone, open_share, width, patient, rng)
    view += (filling - view) * open_share
    mask = np.zeros(hu.shape, bool)
    reach = np.float32(max(width / 2, _MASK_REACH_PX * patient.spacing_mm))
    # Only where a gap is open: beyond a path's ends `away` would round the mask off.
    near = np.min([np.where(g.share > 0, g.away, np.inf) for g in gaps], axis=0) <= reach
    # Within bone alone: a path that runs on into muscle shows nothing there.
    mask[window] = near & (bone.share > 0.5)
    # Shares of pixels times a pixel's area, in mm²; over the width, the length of an even gap.
    area = float(open_share.sum()) * patient.spacing_mm**2
    truth = Fracture(kind, width, displacement, area, area / width, mask)
    return broken, truth


def _most_visible(
    bone: DrawnBone, v: Vertebra, width: float, smear: float, patient: Patient, rng: Rng
) -> tuple[str, list[_Gap]]:
    """Draw fractures until one crosses enough bone of this slice; else keep the longest visible."""
    best: tuple[float, str, list[_Gap]] = (-1.0, "", [])
    for _ in range(_TRIES):
        kind, courses = _draw_courses(v, rng)
        gaps = [_open_gap(bone.spot.at, c, width, smear, patient.spacing_mm, rng) for c in courses]
        shares = np.max([gap.share for gap in gaps], axis=0) * bone.share
        length = float(shares.sum()) * patient.spacing_mm**2 / width
        # The best so far is kept: some slices hold too little bone for any path.
        if length > best[0]:
            best = (length, kind, gaps)
        if length >= _ENOUGH_MM:
            break
    return best[1], best[2]


def _draw_courses(v: Vertebra, rng: Rng) -> tuple[str, list[Course]]:
    """Draw a type of fracture that occurs at this level, and its paths."""
    kinds = _KINDS_OF_LEVEL[min(v.level, 2)]
    name = str(rng.choice(list(kinds)))
    return name, kinds[name](v, rng)


# A ring breaks at two points at least: each arch of C1 gets a path.
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


# Through the dens where the slice has one, below it through the body (type III of Anderson and
# D'Alonzo, J Bone Joint Surg 1974).
def _dens(v: Vertebra, rng: Rng) -> list[Course]:
    return [((float(rng.normal(0, 1)), -6.5 + float(rng.normal(0, 1.5))), rng.normal(0, 0.5), 8.0)]


# Both sides at once: a traumatic spondylolisthesis of C2 goes through both pars.
def _hangman(v: Vertebra, rng: Rng) -> list[Course]:
    courses: list[Course] = []
    for side in (-1, 1):
        middle = (side * (0.5 * v.body[0] + rng.uniform(4, 8)), rng.uniform(0, 3))
        courses.append((middle, side * (0.9 + rng.normal(0, 0.3)), 9.0))
    return courses


def _body(v: Vertebra, rng: Rng) -> list[Course]:
    """Sagittal or oblique through the body, or a corner broken off its front."""
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
    # A right angle to the lamina, which a break crosses and does not follow.
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
    """Bend the course into a jagged path and open it; it closes towards both ends."""
    (x, y), angle, half = course
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    points = _jagged(course, rng)
    pitch, phase = np.float32(rng.uniform(20, 40)), np.float32(rng.uniform(0, 6))
    shape = at.x.shape
    share, away, side = (np.full(shape, np.float32(fill)) for fill in (0, np.inf, 0))
    # As far as `_displace` reaches, and a little more.
    box = box_about(at, (x, y), (half + 13, half + 13))
    here = at.within(box)
    if here.x.size:
        away[box], along = polyline(here, points)
        # Open to the full about 1.5 mm from either end.
        ends = np.clip(np.minimum(along, 1 - along) * np.float32(4 * half / 3), 0, 1)
        opening = np.float32(width) * ends * (1 + np.float32(0.18) * np.sin(pitch * along + phase))
        # Blurred over a pixel at least: a hairline takes its true share of one, and none is lost.
        share[box] = _strip_share(away[box], opening, max(spacing, smear))
        side[box] = np.sign(cos * (here.y - np.float32(y)) - sin * (here.x - np.float32(x)))
    return _Gap(share, away, side, (-sin, cos))


def _jagged(course: Course, rng: Rng) -> list[Point]:
    """Points along the course, each off it by a random walk of about a millimetre."""
    (x, y), angle, half = course
    steps = np.linspace(-half, half, 8)
    rough = np.cumsum(rng.normal(0, 0.5, steps.size))
    # The walk's drift is taken out, so that it begins and ends near its course.
    rough += rng.normal(0, 0.35, steps.size) - np.linspace(rough[0], rough[-1], steps.size)
    cos, sin = np.cos(angle), np.sin(angle)
    return [
        (float(x + cos * s - sin * r), float(y + sin * s + cos * r))
        for s, r in zip(steps, rough, strict=True)
    ]


def _strip_share(away: Array, width: Array, blur_mm: float) -> Array:
    """Part of a strip of `width` (mm) in a box of `blur_mm` whose middle is `away` from its own."""
    blur, half = np.float32(blur_mm), width * np.float32(0.5)
    overlap = np.minimum(away + blur / 2, half) - np.maximum(away - blur / 2, -half)
    share: Array = np.clip(overlap / blur, 0, 1)
    return share


def _displace(view: Array, gap: _Gap, shift_mm: float, spacing: float, rotation: float) -> None:
    """Move the bone on the path's positive side along the path, fading within 5 mm of it."""
    # Less than a sixth of a pixel: resampling would only blur.
    if shift_mm < 0.05:
        return
    fade = np.exp(-((gap.away / np.float32(5.0)) ** 2)) * (gap.side > 0) * (gap.away < 12)
    # Never across the path: a step in the cortex, without closing the gap.
    dx, dy = gap.normal[1] * shift_mm / spacing, -gap.normal[0] * shift_mm / spacing
    cos, sin = np.cos(rotation), np.sin(rotation)
    columns, rows = (cos * dx - sin * dy) * fade, (sin * dx + cos * dy) * fade
    moved = fade > 0.01
    where = np.nonzero(moved)
    # Each pixel fetches what is to lie there, so the shift is subtracted.
    source = np.stack([where[0] - rows[moved], where[1] - columns[moved]]).astype(np.float32)
    view[moved] = ndimage.map_coordinates(view, source, order=1, mode="nearest")


def _fragments(bone: DrawnBone, share: Array, width: float, patient: Patient, rng: Rng) -> Array:
    """What fills the gap: blood, and in wide gaps islands of splintered bone."""
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
        # HU between marrow and cortex, of which a splinter is made.
        filling += (np.float32(700) - filling) * inside.astype(np.float32)
    return filling
