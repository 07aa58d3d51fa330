"""Painter of one vertebra in Hounsfield units: cortex, trabecular marrow, end plates, canal, cord.

It starts from the signed distance to the bone's surface (`vertebra_shape.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cspine.phantom.anatomy.canvas import Canvas, Spot
from cspine.phantom.anatomy.shapes import Array, Plane, coverage, ellipse
from cspine.phantom.anatomy.vertebra import Vertebra, height_at, pillar_centre, spinous_end
from cspine.phantom.anatomy.vertebra_shape import body_distance, bone_distance
from cspine.phantom.patient import TEXTURE, Patient, Position, stream

# A point in the vertebra's frame (mm), about midway between the body's front and the spinous tip.
VERTEBRA_MIDDLE = (0.0, 8.0)
# Tangent of the angle at which a bone's surface runs through a slice, about 15 degrees.
_LEAN = 0.27
_SCLEROTIC_HU = 320.0  # added to a joint or an end plate that is fully worn
_DISC_HU, _ENDPLATE_HU, _CORD_HU, _FLUID_HU = 95.0, 620.0, 42.0, 12.0


@dataclass(frozen=True)
class DrawnBone:
    """The vertebra's window on the canvas after drawing it.

    `distance` is float32 (h, w) in mm, negative in bone; `share` is the part of each pixel that is
    bone, 0..1.
    """

    spot: Spot
    distance: Array
    share: Array


def vertebra_reach(v: Vertebra) -> float:
    """Radius in mm of a circle about `VERTEBRA_MIDDLE` that holds the complete vertebra."""
    behind = spinous_end(v)[1] + 1.6 * v.fork_mm + 4 - VERTEBRA_MIDDLE[1]
    # The farthest part decides; otherwise, the window's border could cut off a fracture.
    return max(behind, float(np.hypot(max(v.wings) + 4, 14)), 36.0)


def draw_bone(
    canvas: Canvas, patient: Patient, position: Position, vertebra: Vertebra
) -> DrawnBone:
    """Paint canal, cord and vertebra on the canvas, and return the vertebra's window."""
    spot = canvas.near(VERTEBRA_MIDDLE, vertebra_reach(vertebra))
    _draw_canal(spot, vertebra)
    distance = bone_distance(spot.at, vertebra, position)
    # Few surfaces of a bone are perpendicular to the slice, so a thick slice blurs them (partial
    # volume).
    softness = float(np.hypot(spot.softness_mm, _LEAN * patient.thickness_mm))
    share = coverage(distance, softness)
    inside = _inner_hu(spot.at, distance, patient, position, vertebra)
    spot.hu[...] += (inside - spot.hu) * share
    return DrawnBone(spot, distance, share)


def _draw_canal(spot: Spot, v: Vertebra) -> None:
    """Paint the cord and the fluid around it; a thin rim of fat is left at the back."""
    middle = (0.0, 0.5 * v.canal[1])
    spot.fill(ellipse(spot.at, middle, (0.42 * v.canal[0], 0.42 * v.canal[1])), _FLUID_HU)
    spot.fill(ellipse(spot.at, middle, (0.25 * v.canal[0], 0.24 * v.canal[1])), _CORD_HU)


def _inner_hu(
    at: Plane, distance: Array, patient: Patient, position: Position, v: Vertebra
) -> Array:
    """HU at every pixel as if it were bone: cortex near the edge, textured marrow deeper."""
    rng = stream(TEXTURE, *patient.key, position.index)
    white = rng.standard_normal(distance.shape, dtype=np.float32)
    # The same noise at two scales: `fine` gives trabeculae, `broad` patches of denser marrow.
    fine = ndimage.gaussian_filter(white, 0.45 / patient.spacing_mm)
    broad = ndimage.gaussian_filter(white, 2.6 / patient.spacing_mm)
    # Both are scaled to unit deviation, because what smoothing leaves depends on the pixel size.
    fine *= np.float32(1 / max(fine.std(), 1e-6))
    broad *= np.float32(1 / max(broad.std(), 1e-6))
    marrow = np.float32(patient.marrow_hu) + np.float32(85) * fine + np.float32(45) * broad
    cortex_mm = np.float32(v.cortex_mm) * (1 + np.float32(0.25) * broad)
    # C1 has no body and therefore no end plates.
    if v.level:
        body = body_distance(at, v)
        marrow = _with_endplate(at, body, marrow, broad, position, v)
        marrow = _with_sclerosis(at, marrow, broad, v)
        # The cortex is thinner on the body than on the arch.
        cortex_mm *= 1 - np.float32(0.3) * coverage(body - np.float32(0.5), 3.0)
    # Negative if the pixel is nearer the surface than the thickness of the cortex.
    shell = coverage(-distance - cortex_mm, 0.8)
    dense = np.float32(patient.cortex_hu) + np.float32(60) * broad
    whole: Array = marrow + (dense - marrow) * shell
    return whole


def _with_sclerosis(at: Plane, marrow: Array, broad: Array, v: Vertebra) -> Array:
    """Return the marrow made denser around worn facet joints, in patches."""
    # Less wear than this would not be visible.
    if v.worn < 0.15:
        return marrow
    near = np.maximum(
        *(coverage(ellipse(at, pillar_centre(v, s), (4.5, 4.5)), 4.0) for s in (-1, 1))
    )
    extra = np.float32(_SCLEROTIC_HU * v.worn) * np.clip(1 + np.float32(0.6) * broad, 0, 2)
    dense: Array = marrow + near * extra
    return dense


def _with_endplate(
    at: Plane, body: Array, marrow: Array, broad: Array, position: Position, v: Vertebra
) -> Array:
    """Return the marrow with the body's lower end: patches of end plate, then disc inside a rim."""
    # The vertebra leans, so the slice cuts it at a different height at each pixel.
    height = np.float32(position.t) + np.float32(v.lean[0]) * at.x + np.float32(v.lean[1]) * at.y
    # Slices higher up in the vertebra do not reach the end plate.
    if height_at(v, position.t, 0.0, -0.5 * v.body[1]) < 0.65:
        return marrow
    # The outermost 1.6 mm stay bone, because the rim of the body reaches farthest down.
    depth = -body - np.float32(1.6)
    # End plates are concave, so a slice leaves the bone in the middle first.
    passed = (height - np.float32(0.9)) * 16 + np.float32(0.9) * broad + np.float32(0.25) * depth
    inside = np.clip(depth, 0, 1)
    plate = np.clip(passed + 1.2, 0, 1) * inside
    disc = np.clip(passed - 0.4, 0, 1) * inside
    # Worn end plates are denser.
    plate_hu = np.float32(_ENDPLATE_HU + _SCLEROTIC_HU * v.worn)
    marrow = marrow + (plate_hu - marrow) * plate
    worn: Array = marrow + (np.float32(_DISC_HU) - marrow) * disc
    return worn
