"""What lies before the spine: airway, oesophagus, vessels, jaw and teeth, cartilages, thyroid.

Painted on a canvas whose frame is the vertebra's (origin at the canal's front, x left, y back,
mm); `height` runs from 0 at the top of C1 to 7 at the end of C7. Knows no labels.
"""

from __future__ import annotations

import numpy as np

from cspine.phantom.canvas import Canvas
from cspine.phantom.patient import ORGANS, Patient, Place, Rng, stream
from cspine.phantom.shapes import Point, ellipse, polyline, wavy

AIR_HU = -1000.0
_BLOOD_HU, _CONTRAST_HU, _GLAND_HU, _MUCOSA_HU, _TOOTH_HU = 45.0, 260.0, 95.0, 58.0, 2100.0
SWOLLEN_SHARE = 0.3  # of slices of either class


def draw_organs(canvas: Canvas, patient: Patient, place: Place) -> bool:
    """Paint the organs of the slice at `place`; return whether the tissue before it is swollen."""
    rng = stream(ORGANS, *patient.key, place.index)
    height = place.level + place.t
    # In both classes alike: swelling must not stand for the fracture.
    is_swollen = bool(rng.uniform() < SWOLLEN_SHARE)
    swelling = float(rng.uniform(3, 7)) if is_swollen else 0.0
    # Swelling lies behind the pharynx, and pushes gullet, airway and cartilage forwards.
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
    # Last, since air lies in front of everything that was painted before.
    _draw_airway(canvas, front - 13, height, rng)
    return is_swollen


def _draw_airway(canvas: Canvas, y: float, height: float, rng: Rng) -> None:
    """Pharynx above, wide and ragged; then larynx; trachea below, nearly round."""
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
    for side in (-1, 1):  # valleculae, then piriform recesses
        recess = (side * rng.uniform(9, 14), y + rng.uniform(2, 9))
        spot = canvas.near(recess, 8)
        radii = (rng.uniform(1.5, 4), rng.uniform(1.5, 4.5))
        spot.fill(ellipse(spot.at.turned(side * 0.5, recess), (0, 0), radii), AIR_HU)


def _draw_vessels(canvas: Canvas, patient: Patient, rng: Rng) -> None:
    """Carotid arteries, jugular veins and some small vessels, bright with contrast."""
    base = _CONTRAST_HU if patient.contrast else _BLOOD_HU
    for side in (-1, 1):
        spots = [(25.0, -20.0, 3.4, base), (31.0, -17.0, rng.uniform(3, 7), 0.7 * base + 10)]
        spots += [(*rng.uniform([12, -50], [48, 10]), 1.2, base) for _ in range(3)]
        for x, y, radius, value in spots:
            centre = (float(side * x + rng.normal(0, 2)), float(y + rng.normal(0, 2)))
            spot = canvas.near(centre, radius + 2)
            spot.fill(ellipse(spot.at, centre, (radius, radius * rng.uniform(0.7, 1.1))), value)


def _draw_jaw(canvas: Canvas, patient: Patient, height: float, rng: Rng) -> None:
    """The mandible's arch with teeth at C1, its lower edges at C3; never quite symmetric."""
    # Heads are seldom straight: one side of the jaw is cut higher than the other.
    roll = rng.normal(0, 0.5)
    for side in (-1, 1):
        local = float(height + side * roll)
        if local > 3.2:
            continue
        back = (side * rng.uniform(40, 46), rng.uniform(-30, -22))
        middle = (side * rng.uniform(33, 38), rng.uniform(-54, -46))
        bend = (side * rng.uniform(21, 26), rng.uniform(-72, -66))
        front = (side * rng.uniform(0, 4), rng.uniform(-86, -80))
        thick = float(np.interp(local, [0, 1.5, 3.2], [5.2, 4.6, 2.2])) * rng.uniform(0.9, 1.1)
        spot = canvas.near(middle, 48)
        # Low slices pass under the ramus and meet the jaw's body alone.
        line, along = polyline(spot.at, [back, middle, bend, front][0 if local < 2.4 else 1 :])
        line += np.float32(0.9) * np.sin(np.float32(rng.uniform(6, 11)) * along)
        shell = float(rng.uniform(1.3, 2.0))
        spot.fill(line - np.float32(thick), patient.cortex_hu)
        spot.fill(line - np.float32(thick - shell), 180.0)
        if local < 1.3:
            _draw_teeth(canvas, middle, bend, rng)


def _draw_teeth(canvas: Canvas, middle: Point, front: Point, rng: Rng) -> None:
    for share in np.arange(0.15, 1.0, 0.17) + rng.normal(0, 0.02):
        if rng.uniform() > 0.85:
            continue
        x, y = (middle[i] + share * (front[i] - middle[i]) for i in (0, 1))
        spot = canvas.near((x, y), 6)
        radii = (rng.uniform(2.2, 3.2), rng.uniform(2.4, 3.8))
        spot.fill(ellipse(spot.at, (x, y), radii, 3), _TOOTH_HU)


def _draw_cartilage(canvas: Canvas, y: float, height: float, rng: Rng) -> None:
    """By height: hyoid bone, thyroid cartilage with patchy calcium, lobes of the thyroid gland."""
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
