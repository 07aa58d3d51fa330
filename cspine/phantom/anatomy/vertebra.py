"""Measures of one cervical vertebra, drawn for a patient, and the positions of its parts.

In the vertebra's frame, the origin is the middle of the canal's front wall, x points to the
patient's left and y to the back, in mm. The means in `vertebrae.csv`, in mm, follow Panjabi et al.,
Spine 1991 (adult C2–C7), and are scaled by the patient's size. The column `pillar` is the distance
of an articular pillar from the midline, and `bifid_share` is the share of forked spinous processes.
`vertebra_shape.py` turns the measures into the shape of the bone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cspine.phantom.anatomy.shapes import Point
from cspine.phantom.anatomy.tables import load_table
from cspine.phantom.patient import VERTEBRA, Patient, stream

_HEIGHT_MM = 17.0  # height of a vertebra with its disc


@dataclass(frozen=True)
class Joint:
    """A facet joint in the slice.

    Attributes:
        half_mm: half the width of the joint's gap.
        angle: rotation of the joint in rad.
        bow_mm: how far the curve of the gap bows out.
        slide_mm: how far each of the two articular processes has slid along the gap, in opposite
            directions.
    """

    half_mm: float
    angle: float
    bow_mm: float
    slide_mm: float


@dataclass(frozen=True)
class Vertebra:
    """Measures of a vertebra in mm.

    Pairs without a comment of their own are (patient's right, patient's left).
    """

    level: int
    body: Point  # width, depth
    canal: Point  # width, depth
    pillars: Point  # distance from the midline on each side
    pillar_radii: Point  # across, along
    lamina_mm: Point  # half the thickness on each side
    spinous_mm: float
    spinous_angle: float
    fork_mm: float  # 0 if the spinous process is not forked
    wings: Point  # reach of the transverse processes on each side
    foramina: Point  # radius on each side
    joints: tuple[Joint, Joint]
    spurs: tuple[tuple[Point, float], ...]  # osteophytes: centre and radius
    ripple: tuple[tuple[float, float, float, float], ...]  # amplitude, wave numbers, phase
    cortex_mm: float
    blend_mm: float
    worn: float  # 0 (not at all) to 1; wear adds spurs and makes joints dense and narrow
    lean: Point  # change of the height `t` in a slice per mm to the left and per mm to the back


def draw_vertebra(patient: Patient, level: int) -> Vertebra:
    """Draw the patient's vertebra at `level` (0 is C1)."""
    # The key holds no slice, because all slices of a level show the same vertebra.
    rng = stream(VERTEBRA, *patient.key, level)
    mean = load_table("vertebrae.csv")[level]
    scale = patient.size * rng.normal(1, 0.03)
    width, depth = mean["body_width"] * scale, mean["body_depth"] * scale
    # Age is the upper limit of wear, so old patients may have little of it.
    worn = patient.age * rng.uniform()
    return Vertebra(
        level=level,
        body=(width, depth * rng.normal(1, 0.05)),
        canal=(mean["canal_width"] * scale, mean["canal_depth"] * scale * rng.normal(1, 0.06)),
        pillars=_pair(rng, mean["pillar"] * scale, 0.03),
        pillar_radii=(rng.uniform(5.4, 6.8) * scale, rng.uniform(4.4, 5.8) * scale),
        lamina_mm=_pair(rng, rng.uniform(1.6, 2.3) * scale, 0.1),
        spinous_mm=mean["spinous"] * scale * rng.normal(1, 0.12),
        spinous_angle=float(rng.normal(0, 0.06)),
        fork_mm=float(rng.uniform(2.5, 5)) if rng.uniform() < mean["bifid_share"] else 0.0,
        wings=_pair(rng, (27.5 if level != 0 else 35.0) * scale, 0.05),
        foramina=_pair(rng, rng.uniform(2.3, 3.2) * scale, 0.1),
        joints=_draw_joints(rng, worn),
        spurs=_draw_spurs(rng, width, depth, worn),
        ripple=tuple(
            (rng.uniform(0.1, 0.3), rng.normal(0, 0.35), rng.normal(0, 0.35), rng.uniform(0, 6.28))
            for _ in range(4)
        ),
        cortex_mm=float(rng.uniform(0.9, 1.5) * (1 - 0.25 * patient.age)),
        blend_mm=float(rng.uniform(1.5, 3.5)),
        worn=worn,
        lean=_draw_lean(rng, patient),
    )


def _pair(rng: np.random.Generator, mean: float, spread: float) -> Point:
    right, left = mean * (1 + spread * rng.normal(size=2).clip(-2, 2))
    return float(right), float(left)


def _draw_joints(rng: np.random.Generator, worn: float) -> tuple[Joint, Joint]:
    halves = _pair(rng, float(np.interp(worn, [0, 1], [0.9, 0.35])), 0.15)
    turn = rng.normal(0, 0.15)
    right, left = (
        Joint(
            half,
            float(side * (0.45 + turn) + rng.normal(0, 0.12)),
            float(side * rng.normal(0.9, 0.7)),
            float(rng.normal(0, 0.9)),
        )
        for side, half in zip((-1, 1), halves, strict=True)
    )
    return right, left


def _draw_lean(rng: np.random.Generator, patient: Patient) -> Point:
    """Draw the lean of one vertebra, which differs a little from the tilt of the spine."""
    left, back = np.tan(np.asarray(patient.tilt) + np.radians(rng.normal(0, [1.5, 3.5])))
    height = _HEIGHT_MM * patient.size
    return float(left / height), float(back / height)


def _draw_spurs(
    rng: np.random.Generator, width: float, depth: float, worn: float
) -> tuple[tuple[Point, float], ...]:
    """Draw osteophytes on the edge of the body; more wear gives more and larger ones."""
    spurs = []
    for _ in range(rng.poisson(4 * worn) if width else 0):
        # The angles place them in front and at the sides.
        angle = rng.uniform(-np.pi, 0.25)
        point = (0.5 * width * np.cos(angle), -0.5 * depth + 0.5 * depth * np.sin(angle))
        spurs.append(((float(point[0]), float(point[1])), float(rng.uniform(1, 1 + 2 * worn))))
    return tuple(spurs)


def height_at(v: Vertebra, t: float, x: float, y: float) -> float:
    """The height at (x, y), in a slice whose height at the frame's origin is `t`."""
    return t + v.lean[0] * x + v.lean[1] * y


def pillar_centre(v: Vertebra, side: int) -> Point:
    """The middle of the articular pillar on `side` (-1 right, 1 left)."""
    return side * v.pillars[(side + 1) // 2], 0.28 * v.canal[1]


def lamina_end(v: Vertebra) -> Point:
    """The point at which the laminae meet behind the canal."""
    return 0.0, v.canal[1] + v.lamina_mm[0] + 0.4


def spinous_end(v: Vertebra) -> Point:
    """The tip of the spinous process, or the point at which it forks."""
    x, y = lamina_end(v)
    return x + v.spinous_mm * np.sin(v.spinous_angle), y + v.spinous_mm * np.cos(v.spinous_angle)
