"""The bone of one vertebra in a slice, as the signed distance to its surface.

Distances are in mm, negative inside, in the vertebra's frame (see `vertebra.py`). Every opening
that is cut into the bone here (canal, foramina, joints) gets a cortex along its edge, because
`bone.py` draws the cortex wherever the distance is near zero.
"""

from __future__ import annotations

import numpy as np

from cspine.phantom.anatomy.shapes import Array, Plane, Point, ellipse, polyline, rod, unite
from cspine.phantom.anatomy.vertebra import (
    Vertebra,
    height_at,
    lamina_end,
    pillar_centre,
    spinous_end,
)
from cspine.phantom.patient import Position


def bone_distance(at: Plane, v: Vertebra, position: Position) -> Array:
    """Distance to the bone of `v` at height `position.t`, float32 (H, W), mm, negative inside."""
    bent = _rippled(at, v)
    if v.level == 0:
        bone = _atlas(bent, v, position.t)
    else:
        bone = unite(_arch(bent, v, position.t), _front(bent, v, position.t), v.blend_mm)
    return _cut_joints(bent, v, position.t, _cut_canal(bent, v, bone))


def body_distance(at: Plane, v: Vertebra) -> Array:
    """Distance to the vertebral body without any other part (C2–C7)."""
    return ellipse(at, (0.0, -0.5 * v.body[1]), (0.5 * v.body[0], 0.5 * v.body[1]), 3)


def thinned(t: float, low: float, high: float, edge: float = 0.12) -> float:
    """Return by how many mm a part shrinks at height `t`; it spans the heights `low` to `high`."""
    outside = max(low - t, t - high, -edge) + edge
    # The result, to be added to a distance, is 0 well inside the span, 4 mm at the ends of the span
    # and rises further beyond them.
    return 4.0 * outside / edge


def _rippled(at: Plane, v: Vertebra) -> Plane:
    """Return the plane bent a little, so that no edge drawn on it is a perfect curve."""
    x, y = at.x, at.y
    bend_x, bend_y = np.zeros_like(x), np.zeros_like(y)
    for number, (amplitude, kx, ky, phase) in enumerate(v.ripple):
        wave = np.float32(amplitude) * np.sin(np.float32(kx) * x + np.float32(ky) * y + phase)
        if number % 2:
            bend_x = bend_x + wave.astype(np.float32)
        else:
            bend_y = bend_y + wave.astype(np.float32)
    return Plane(x + bend_x, y + bend_y)


def _front(at: Plane, v: Vertebra, t: float) -> Array:
    """Distance to the body with uncinate processes and spurs, or to dens and facets at C2's top."""
    t = height_at(v, t, 0.0, -0.5 * v.body[1])
    if v.level == 1 and t < 0.45:
        dens = ellipse(at, (0.0, -6.2), (5.2, 5.6))
        right, left = (ellipse(at, (side * 15.5, -4.0), (7.5, 6.5)) for side in (-1, 1))
        facets = unite(right, left) + thinned(t, -0.2, 1)
        neck = body_distance(at, v) + thinned(t, 0.3, 1)
        return unite(unite(dens, facets, 2.0), neck, 3.0)
    body = body_distance(at, v) - 0.5 * max(0.25 - t, 0)
    # Uncinate processes rise at both sides of the body's top.
    for side in (-1, 1):
        x = side * 0.47 * v.body[0]
        edge = ellipse(at, (x, -0.45 * v.body[1]), (2.6, 5.0))
        body = unite(body, edge + thinned(t + v.lean[0] * x, -0.2, 0.25), 1.5)
    for centre, radius in v.spurs:
        body = unite(body, ellipse(at, centre, (radius, radius)), 1.5)
    return body


def _arch(at: Plane, v: Vertebra, t: float) -> Array:
    """Distance to the arch: pillars, pedicles, transverse and spinous processes, and laminae."""
    arch = _spinous(at, v, t)
    end = lamina_end(v)
    for side in (-1, 1):
        index = (side + 1) // 2
        centre = pillar_centre(v, side)
        lamina = rod(
            at, (centre[0], centre[1] + 1.5), end, v.lamina_mm[index] * 1.25, v.lamina_mm[index]
        )
        middle = 0.5 * (centre[0] + end[0]), 0.5 * (centre[1] + end[1])
        lamina += thinned(height_at(v, t, *middle), 0.22, 1.2)
        half = unite(_pillar(at, v, side, t), lamina, v.blend_mm)
        half = unite(half, _side_parts(at, v, side, t), 1.2)
        arch = unite(arch, half, 1.5)
    return arch


def _pillar(at: Plane, v: Vertebra, side: int, t: float) -> Array:
    """Distance to one articular pillar.

    It is one piece at the middle of the vertebra's height, and two processes at the joints.
    """
    centre, (across, along) = pillar_centre(v, side), v.pillar_radii
    if not _has_joint(v, t, centre):
        # The ellipse is rotated outwards, as articular pillars are.
        return ellipse(at.turned(side * 0.35, centre), (0, 0), v.pillar_radii)
    joint = v.joints[(side + 1) // 2]
    frame = at.turned(joint.angle, centre)
    # The front process belongs to the vertebra below. Both overlap until `_cut_joints` opens the
    # joint between them.
    front = ellipse(frame, (joint.slide_mm, -0.42 * along), (across, 0.68 * along), 3)
    back = ellipse(frame, (-joint.slide_mm, 0.42 * along), (1.05 * across, 0.74 * along))
    return unite(front, back, 0.8)


def _has_joint(v: Vertebra, t: float, centre: Point) -> bool:
    """Whether the slice cuts a facet joint at `centre`, near the vertebra's top or bottom."""
    return not 0.28 < height_at(v, t, *centre) < 0.72


def _side_parts(at: Plane, v: Vertebra, side: int, t: float) -> Array:
    """Distance to one side's pedicle and transverse process, with the foramen cut out."""
    index = (side + 1) // 2
    x, y = pillar_centre(v, side)
    body_edge = side * 0.48 * v.body[0]
    t = height_at(v, t, x, -2.0)
    gone = thinned(t, 0.08, 0.62)
    pedicle = rod(at, (body_edge, -0.2 * v.body[1]), (x, y - 2), 2.7, 3.0) + gone
    tip = side * v.wings[index]
    front = rod(at, (body_edge, -0.55 * v.body[1]), (tip - side * 2, -6.5), 1.9, 1.7)
    back = rod(at, (x, y - 2.5), (tip, -2.5), 2.6, 1.8)
    bridge = rod(at, (tip - side * 2.5, -6.5), (tip - side * 0.5, -2.5), 1.5, 1.5)
    wing = unite(unite(front, back, 1.0), bridge, 1.0) + thinned(t, 0.15, 0.7)
    # The vertebral artery passes through the foramen.
    hole = ellipse(at, (side * (0.5 * v.body[0] + 5.2), -4.6), (v.foramina[index],) * 2)
    return np.maximum(unite(pedicle, wing, 1.0), -hole)


def _spinous(at: Plane, v: Vertebra, t: float) -> Array:
    """Distance to the spinous process, which is forked or has a thick end."""
    start, end = lamina_end(v), spinous_end(v)
    stem = rod(at, start, end, 2.4, 1.9 if v.fork_mm else 2.9)
    if v.fork_mm:
        for side, reach in ((-1, 1.0), (1, 0.85)):
            tip = (end[0] + side * v.fork_mm * reach, end[1] + 4.5 * reach)
            stem = unite(stem, rod(at, end, tip, 1.8, 2.3), 1.0)
    return stem + thinned(
        height_at(v, t, 0.5 * (start[0] + end[0]), 0.5 * (start[1] + end[1])), 0.35, 1.3
    )


def _atlas(at: Plane, v: Vertebra, t: float) -> Array:
    """Distance to C1, a ring of two arches and lateral masses, with the dens of C2 inside it."""
    width, depth = 0.5 * v.canal[0], v.canal[1]
    front = [(-14.0, -9.0), (-7.0, -15.0), (0.0, -16.8), (7.0, -15.0), (14.0, -9.0)]
    back = [
        (-width - 3, 5.0),
        (-width * 0.75, depth * 0.8),
        (0.0, depth + 2.0),
        (width * 0.75, depth * 0.8),
        (width + 3, 5.0),
    ]
    before, behind = height_at(v, t, 0.0, -15.0), height_at(v, t, 0.0, depth)
    ring = polyline(at, front)[0] - 2.4 + thinned(before, 0.1, 0.95)
    ring = unite(ring, polyline(at, back)[0] - v.lamina_mm[0] + thinned(behind, 0.25, 0.9), 1.0)
    ring = unite(ring, ellipse(at, (0.0, depth + 2.6), (2.8, 2.4)) + thinned(behind, 0.3, 0.9), 2.0)
    for side in (-1, 1):
        index = (side + 1) // 2
        mass = ellipse(at.turned(side * 0.5, (side * 18.0, -4.0)), (0, 0), (6.2, 8.5))
        tip = side * v.wings[index]
        wing = rod(at, (side * 20.0, -2.0), (tip, 1.5), 4.2, 2.2)
        wing += thinned(height_at(v, t, side * 28.0, 0.0), 0.2, 0.85)
        hole = ellipse(at, (side * 26.5, -0.5), (v.foramina[index],) * 2)
        ring = unite(ring, np.maximum(unite(mass, wing, 2.0), -hole), 2.0)
    dens = ellipse(at, (0.0, -7.4), (5.0, 5.4)) + thinned(height_at(v, t, 0.0, -7.4), 0.15, 2)
    # The joint between front arch and dens is kept open by 1.1 mm.
    whole: Array = np.minimum(np.maximum(ring, np.float32(1.1) - dens), dens)
    return whole


def _cut_canal(at: Plane, v: Vertebra, bone: Array) -> Array:
    half_width, half_depth = 0.5 * v.canal[0], 0.5 * v.canal[1]
    middle = (0.0, half_depth + (0.5 if v.level == 0 else 0.0))
    return np.maximum(bone, -ellipse(at, middle, (half_width, half_depth)))


def _cut_joints(at: Plane, v: Vertebra, t: float, bone: Array) -> Array:
    """Return the bone with the facet joints opened, if the slice cuts any."""
    # The joints of C1 are elsewhere and are not drawn.
    if v.level == 0:
        return bone
    for side, joint in zip((-1, 1), v.joints, strict=True):
        x, y = pillar_centre(v, side)
        if not _has_joint(v, t, (x, y)):
            continue
        along = at.turned(joint.angle, (x, y + (1.0 if t < 0.5 else -1.0)))
        # The gap is a shallow arc that is wider at one end than at the other.
        off = along.y + np.float32(joint.bow_mm / 36) * along.x**2
        half = np.float32(joint.half_mm) * (1 + np.float32(0.04 * side) * along.x)
        gap = np.maximum(np.abs(off) - half, np.abs(along.x) - 9.0)
        bone = np.maximum(bone, -gap)
    return bone
