"""Organs in front of the spine: airway, oesophagus, vessels, jaw and teeth, cartilages, thyroid.

They are painted on a canvas in the vertebra's frame: the origin is at the front of the canal, x
points to the patient's left and y to the back, in mm. `height` runs from 0 at the top of C1 to 7 at
the bottom of C7.
"""

from __future__ import annotations

import numpy as np

from cspine.phantom.anatomy.canvas import Canvas
from cspine.phantom.anatomy.shapes import Plane, Point, ellipse, length, polyline, wavy
from cspine.phantom.anatomy.soft_tissue import AIR_HU
from cspine.phantom.patient import ORGANS, Patient, Position, Rng, stream

_BLOOD_HU, _CONTRAST_HU, _GLAND_HU, _MUCOSA_HU, _TOOTH_HU = 45.0, 260.0, 95.0, 58.0, 2100.0
SWOLLEN_SHARE = 0.3  # share of swollen slices, the same in both classes


def draw_organs(canvas: Canvas, patient: Patient, position: Position) -> bool:
    """Paint the organs of a slice; return whether the tissue in front of the spine is swollen."""
    rng = stream(ORGANS, *patient.key, position.index)
    height = position.level + position.t
    # Swelling is drawn in the same way for both classes, so that it does not predict the fracture.
    is_swollen = bool(rng.uniform() < SWOLLEN_SHARE)
    swelling = float(rng.uniform(3, 7)) if is_swollen else 0.0
    # Swelling is behind the pharynx and pushes oesophagus, airway and cartilage forwards.
    front = -20.0 * patient.size - 2.0 - swelling
    if is_swollen:
        spot = canvas.near((0, front + 2), 22)
        spot.fill(ellipse(spot.at, (rng.normal(0, 3), front + 2), (15, 3 + swelling)), 50.0)
    gullet = (float(rng.normal(2, 2)), front - 3)
    spot = canvas.near(gullet, 10)
    spot.fill(ellipse(spot.at, gullet, (8, 3.2)), 42.0)
    _draw_vessels(canvas, patient, rng)
    if height < 3.6:
        _draw_jaw(canvas, patient, height, rng)
    if height > 3.0:
        _draw_cartilage(canvas, front - 13, height, rng)
    # The airway is painted last, because its air replaces everything painted before it.
    _draw_airway(canvas, front - 13, height, rng)
    return is_swollen


def _draw_airway(canvas: Canvas, y: float, height: float, rng: Rng) -> None:
    """Paint the airway: a wide, ragged pharynx, the larynx or a nearly round trachea, by height."""
    openness = float(np.interp(height, [0, 2, 3.5, 4.5, 7], [0.55, 0.65, 0.7, 0.9, 1.0]))
    width = float(np.interp(height, [0, 3, 4.5, 7], [13, 11, 7, 8.5])) * rng.uniform(0.8, 1.15)
    depth = 9.5 * openness * rng.uniform(0.75, 1.1)
    raggedness = float(np.interp(height, [0, 3.5, 5.5, 7], [1.8, 1.6, 0.6, 0.35]))
    sizes = (raggedness * share for share in (1.0, 0.7, 0.45, 0.3, 0.2))
    waves = [(float(rng.normal(0, size)), float(rng.uniform(0, 6.28))) for size in sizes]
    centre = (float(rng.normal(0, 1.5)), y)
    spot = canvas.near(centre, 26)
    lumen = wavy(spot.at, centre, (width, depth), waves)
    spot.fill(lumen - np.float32(1.7), _MUCOSA_HU)
    spot.fill(lumen, AIR_HU)
    if not 2.4 < height < 4.4:
        return
    for side in (-1, 1):  # valleculae in higher slices, piriform recesses in lower ones
        recess = (side * rng.uniform(9, 14), y + rng.uniform(2, 9))
        spot = canvas.near(recess, 8)
        radii = (rng.uniform(1.5, 4), rng.uniform(1.5, 4.5))
        spot.fill(ellipse(spot.at.turned(side * 0.5, recess), (0, 0), radii), AIR_HU)


def _draw_vessels(canvas: Canvas, patient: Patient, rng: Rng) -> None:
    """Paint carotid arteries, jugular veins and some small vessels, bright if there is contrast."""
    base = _CONTRAST_HU if patient.contrast else _BLOOD_HU
    for side in (-1, 1):
        spots = [(25.0, -20.0, 3.4, base), (31.0, -17.0, rng.uniform(3, 7), 0.7 * base + 10)]
        spots += [(*rng.uniform([12, -50], [48, 10]), 1.2, base) for _ in range(3)]
        for x, y, radius, value in spots:
            centre = (float(side * x + rng.normal(0, 2)), float(y + rng.normal(0, 2)))
            spot = canvas.near(centre, radius + 2)
            spot.fill(ellipse(spot.at, centre, (radius, radius * rng.uniform(0.7, 1.1))), value)


def _draw_jaw(canvas: Canvas, patient: Patient, height: float, rng: Rng) -> None:
    """Paint the mandible, a horseshoe open to the back: complete at C1, only the chin at C3."""
    # The rami end in front of the ears, and lower slices pass below the rami. Heads are seldom
    # straight, so the slice cuts one side of the jaw higher than the other, and that side reaches
    # farther back.
    reach = float(np.interp(height, [0, 1.6, 2.2, 3.6], [-24, -30, -56, -84]))
    slope, centre = float(rng.normal(0, 0.22)), (float(rng.normal(0, 1.5)), -40.0)
    radii = (float(rng.uniform(35, 40)), float(rng.uniform(41, 47)))
    thick = float(np.interp(height, [0, 1.5, 3.2], [5.2, 5.0, 3.0])) * rng.uniform(0.9, 1.1)
    spot = canvas.near((centre[0], -54.0), 56)
    # The horseshoe is broader than a circle in front and becomes a little wider to the back.
    spread = np.float32(centre[0]) + (spot.at.x - np.float32(centre[0])) / (
        1 + np.float32(0.004) * (spot.at.y - np.float32(centre[1]))
    )
    bow = ellipse(Plane(spread, spot.at.y), centre, radii, 3)
    # Real jaws are irregular, so waves are added to the horseshoe.
    for ticks, size in ((spot.at.x, 2.0), (spot.at.y, 1.5)):
        wave, phase = np.float32(rng.uniform(0.05, 0.09)), np.float32(rng.uniform(0, 6.28))
        bow += np.float32(rng.normal(0, size)) * np.sin(wave * ticks + phase)
    # The thickness varies along the jaw.
    uneven = np.float32(0.5) * np.sin(spot.at.x * np.float32(rng.uniform(0.12, 0.2)) + centre[0])
    shell = np.abs(bow) - np.float32(thick) - uneven
    back = spot.at.y - np.float32(reach) - np.float32(slope) * spot.at.x
    # This rounds the ends at the back, with the half thickness of the bone as radius.
    whole = np.maximum(
        shell, length(np.maximum(shell + thick, 0), np.maximum(back + thick, 0)) - thick
    )
    cortex = float(rng.uniform(1.5, 2.4))
    spot.fill(whole, patient.cortex_hu)
    spot.fill(whole + np.float32(cortex), 180.0)
    if height < 1.4:
        _draw_teeth(canvas, centre, radii, rng)


def _draw_teeth(canvas: Canvas, centre: Point, radii: Point, rng: Rng) -> None:
    """Paint teeth with pulp along the horseshoe, larger ones to the back; some are missing."""
    for angle in np.linspace(0.12, np.pi - 0.12, 14):
        if rng.uniform() < 0.12:
            continue
        # The tooth is placed on the edge of the jaw's superellipse, whose power is 3.
        cos, sin = np.cos(angle), np.sin(angle)
        rim = (abs(cos) ** 3 + abs(sin) ** 3) ** (-1 / 3)
        point = (centre[0] + radii[0] * rim * cos, centre[1] - radii[1] * rim * sin)
        molar = abs(cos)
        size = (rng.uniform(2.0, 2.8) + 1.2 * molar, rng.uniform(2.6, 3.2) + 1.0 * molar)
        spot = canvas.near(point, 7)
        frame = spot.at.turned(
            float(np.arctan2(-sin / radii[1], cos / radii[0]) + np.pi / 2), point
        )
        spot.fill(ellipse(frame, (0, 0), size, 3), _TOOTH_HU * rng.uniform(0.8, 1.1))
        spot.fill(ellipse(frame, (0, 0), (0.3 * size[0], 0.3 * size[1])), 700.0)


def _draw_cartilage(canvas: Canvas, y: float, height: float, rng: Rng) -> None:
    """Paint hyoid bone, thyroid cartilage (patchy calcium) or thyroid gland, by height."""
    if height > 5.2:
        for side in (-1, 1):
            lobe = (side * rng.uniform(14, 17), y + rng.uniform(0, 4))
            spot = canvas.near(lobe, 14)
            spot.fill(ellipse(spot.at, lobe, (6.5, 10.0)), _GLAND_HU)
        return
    if height < 3.9:
        points = [(-16.0, y + 6), (-9.0, y - 12), (0.0, y - 16), (9.0, y - 12), (16.0, y + 6)]
        shell, value = rng.uniform(1.2, 1.8), 650.0
    else:
        points = [(-17.0, y + 12), (-13.0, y - 4), (0.0, y - 19), (13.0, y - 4), (17.0, y + 12)]
        shell, value = rng.uniform(1.0, 1.6), rng.uniform(120, 420)
    points = [(px + rng.normal(0, 1), py + rng.normal(0, 1)) for px, py in points]
    spot = canvas.near((0, y), 34)
    line, along = polyline(spot.at, points)
    thin = np.float32(0.6) * np.sin(np.float32(rng.uniform(9, 16)) * along)
    spot.fill(line - np.float32(shell) + thin, value)
