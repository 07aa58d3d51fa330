"""Cheap looks at a picture that say why it can be no axial CT of the neck.

An axial CT has a flat plateau of soft tissue, air round it, sharp borders between the two and bone
as the brightest part. Everything is measured on a picture averaged down to about 64 × 64. The
checks do not know anatomy: a CT of the head or a synthetic one passes, and is for the embedding
distance and the vertebra finder to judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALL_SIDE_PX = 64
MIN_SIDE_PX = 64
MAX_ASPECT = 1.8
PLATEAU_LEVELS = 28  # grey levels that hold one tissue, its noise averaged out
DISC = 0.97  # of the inscribed circle's radius: what lies outside is no data in many exports
CENTRE = 0.6


@dataclass(frozen=True)
class Appearance:
    """What the checks look at; grey levels 0..255, shares 0..1.

    `contrast` standard deviation of the small picture; `grain` mean step between neighbouring
    pixels; `plateau` grey level of the commonest tissue in the centre and `flatness` the share of
    the centre within it; `sharp` share of steps that leave the plateau at once; `brighter` and
    `darker` shares of the centre clearly off the plateau; `air` and `glare` shares of the ring
    round the centre clearly darker and brighter.
    """

    contrast: float
    grain: float
    plateau: float
    flatness: float
    sharp: float
    brighter: float
    darker: float
    air: float
    glare: float


def check_image(grey: np.ndarray, is_colour: bool) -> str | None:
    """Return in words why the picture is no axial CT of the neck, or None where nothing says so.

    Args:
        grey: uint8 (H, W).
        is_colour: whether the file's colour channels really differ.
    """
    height, width = grey.shape
    if is_colour:
        return "the picture is in colour"
    if min(height, width) < MIN_SIDE_PX:
        return f"the picture is too small: {width} × {height} pixels"
    if max(height, width) > MAX_ASPECT * min(height, width):
        return "the picture is too long and narrow"
    return _refusal(measure(grey))


def measure(grey: np.ndarray) -> Appearance:
    """Return the Appearance of a picture, uint8 (H, W), at least 64 pixels a side."""
    small = _shrink(grey)
    centre, ring = _zones(small)
    plateau, flatness = _plateau(centre)
    up, down = max(14.0, 0.35 * (255 - plateau)), max(14.0, 0.35 * plateau)
    lines = grey[:: max(1, grey.shape[0] // SMALL_SIDE_PX)].astype(np.int16)
    steps = np.abs(np.diff(small, axis=1))
    return Appearance(
        contrast=float(small.std()),
        grain=float(np.abs(np.diff(lines, axis=1)).mean()),
        plateau=plateau,
        flatness=flatness,
        sharp=float((steps > 40).mean()),
        brighter=float((centre > plateau + up).mean()),
        darker=float((centre < plateau - down).mean()),
        air=float((ring < plateau - down).mean()),
        glare=float((ring > plateau + up).mean()),
    )


def _refusal(seen: Appearance) -> str | None:
    """Return the first reason that the appearance gives, or None."""
    if seen.contrast < 12:
        return "the picture is blank"
    if seen.grain > 0.6 * seen.contrast:
        return "the picture is noise"
    if seen.flatness < 0.6:
        return "there is no even soft tissue, as in a photograph, a page or a projection"
    if seen.sharp < 0.035:
        return "there is no sharp border between body and air"
    if seen.plateau < 125:
        return "the picture is too dark or inverted"
    return None


def _shrink(grey: np.ndarray) -> np.ndarray:
    """Return float32 block means, about SMALL_SIDE_PX along the shorter side."""
    block = max(1, min(grey.shape) // SMALL_SIDE_PX)
    rows, columns = grey.shape[0] // block, grey.shape[1] // block
    blocks = grey[: rows * block, : columns * block].reshape(rows, block, columns, block)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def _zones(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of the central disc and of the ring round it, inside the circle."""
    height, width = small.shape
    rows = np.arange(height)[:, None] - (height - 1) / 2
    columns = np.arange(width)[None] - (width - 1) / 2
    radius = np.hypot(rows, columns) / (min(height, width) / 2)
    return small[radius < CENTRE], small[(radius >= CENTRE) & (radius < DISC)]


def _plateau(centre: np.ndarray) -> tuple[float, float]:
    """Return middle and share of the PLATEAU_LEVELS grey levels that hold most of the centre."""
    counts = np.bincount(centre.astype(np.int64), minlength=256)
    reached = np.concatenate([[0], np.cumsum(counts)])
    inside = reached[PLATEAU_LEVELS:] - reached[:-PLATEAU_LEVELS]
    first = int(inside.argmax())
    return first + PLATEAU_LEVELS / 2, float(inside[first] / len(centre))
