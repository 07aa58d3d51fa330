"""Fast checks that refuse a picture that cannot be an axial CT slice of the neck, with the reason.

An axial CT slice has even soft tissue surrounded by air, with few greys between them, sharp borders
and bone. Most of it is smooth if it is shrunk to about 64 × 64 pixels, where most quantities are
measured. The bounds were set on synthetic and real slices. Anatomy is not checked: a CT of the head
or a synthetic CT passes, and is left to the embedding distance and the vertebra finder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cspine.imaging.downsample import block_means

SMALL_SIDE_PX = 64
MIN_SIDE_PX = 64
MAX_ASPECT = 1.8
TISSUE_LEVELS = 28  # grey levels that one tissue covers after its noise is averaged out
PAPER_LEVEL = 190
MANY_BORDERS = (
    "The picture has more sharp borders than a neck; it may be another part of the body, writing "
    "or a drawing."
)
DISC, CENTRE = 0.97, 0.6  # of the inscribed circle's radius; many exports hold no data outside


@dataclass(frozen=True)
class Appearance:
    """The quantities that the checks compare. "Small" is the picture shrunk by `_shrink`.

    Fields:
        contrast: standard deviation of the small picture, in grey levels.
        grain: mean step between neighbouring full-size pixels of a row, divided by the contrast.
        two_tones: share of the centre that the grey levels of its two commonest tissues hold.
        disc_tones: the same share of the complete disc.
        unrest: median step along rows of the small picture, divided by the contrast.
        sharp: share of the steps, along rows and columns, that exceed 0.75 of the contrast.
        smooth: share of the small pixels without a step of 0.12 of the contrast or more.
        upright: bright minus dark share of the centre, less that of the ring round it, −2..2.
        commonest: the grey level of the commonest tissue in the centre.
    """

    contrast: float
    grain: float
    two_tones: float
    disc_tones: float
    unrest: float
    sharp: float
    smooth: float
    upright: float
    commonest: float


def check_image(grey: np.ndarray, is_colour: bool) -> str | None:
    """Return a sentence that says why the picture is no axial CT of the neck, or None if it may be.

    Args:
        grey: uint8 (H, W).
        is_colour: whether the colour channels of the file differ.
    """
    height, width = grey.shape
    if is_colour:
        return "The picture is in colour, so it is not a CT slice."
    if min(height, width) < MIN_SIDE_PX:
        return f"The picture is too small for a CT slice: {width} × {height} pixels."
    if max(height, width) > MAX_ASPECT * min(height, width):
        return "The picture is too long and narrow for an axial CT slice."
    return _refusal(measure(grey))


def _refusal(look: Appearance) -> str | None:
    """Return the first reason against a picture of this appearance, or None."""
    evenness = look.two_tones + look.disc_tones + look.smooth - 4 * look.unrest
    is_page = look.sharp > 0.1 and look.upright < 0.1 and look.contrast < 60
    if look.grain * look.contrast > 6 and look.grain > 0.6:
        return "The picture is noise."
    if look.contrast < 12:
        return "The picture is blank."
    if is_page or look.sharp > 0.14:
        # A head or a chest has as many borders as a page, but no body is as bright as paper.
        if look.commonest > PAPER_LEVEL:
            return "The picture looks like a page of text or a drawing."
        return MANY_BORDERS
    if look.sharp < 0.021:
        return "The picture has no sharp border between body and air, unlike a CT slice."
    if look.two_tones < 0.68 or look.disc_tones < 0.66:
        return "The picture has no even soft tissue; it may be a radiograph or a photograph."
    if evenness < 1.58 or (look.unrest > 0.055 and look.sharp < 0.036):
        return "The picture looks like a photograph."
    if look.upright < -0.1:
        return "The picture is inverted: air must be dark and bone bright."
    return None


def measure(grey: np.ndarray) -> Appearance:
    """Return the Appearance of a picture, uint8 (H, W), at least 64 pixels on each side."""
    small = _shrink(grey)
    centre, ring = (small[zone] for zone in _zones(*small.shape))
    # At least 1, because the contrast of a blank picture is 0 and would be divided by.
    contrast = max(float(small.std()), 1.0)
    tissue, two_tones = _tones(centre)
    # In uint8, a step down would come out as a large step up.
    lines = grey[:: max(1, grey.shape[0] // SMALL_SIDE_PX)].astype(np.int16)
    across, down = (np.abs(np.diff(small, axis=axis)) for axis in (1, 0))
    # (h − 1, w − 1): the pixels at which both a step across and a step down begin.
    steps = np.maximum(across[:-1], down[:, :-1])
    bound = 0.75 * contrast
    return Appearance(
        contrast=float(small.std()),
        grain=float(np.abs(np.diff(lines, axis=1)).mean()) / contrast,
        two_tones=two_tones,
        disc_tones=_tones(np.concatenate([centre, ring]))[1],
        unrest=float(np.median(across)) / contrast,
        sharp=float((across > bound).mean() + (down > bound).mean()) / 2,
        smooth=float((steps < 0.12 * contrast).mean()),
        upright=_tilt(centre, tissue) - _tilt(ring, tissue),
        commonest=tissue,
    )


def _shrink(grey: np.ndarray) -> np.ndarray:
    """Return float32 block means, about SMALL_SIDE_PX along the shorter side."""
    return block_means(grey, max(1, min(grey.shape) // SMALL_SIDE_PX))


@lru_cache(maxsize=8)
def _zones(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bool (H, W): the central disc, and the ring round it inside the circle."""
    rows = np.arange(height)[:, None] - (height - 1) / 2
    columns = np.arange(width)[None] - (width - 1) / 2
    radius = np.hypot(rows, columns) / (min(height, width) / 2)
    return radius < CENTRE, (radius >= CENTRE) & (radius < DISC)


def _tones(values: np.ndarray) -> tuple[float, float]:
    """Return the commonest tissue's grey level, and the share of the two commonest tissues."""
    counts = np.bincount(values.astype(np.int64), minlength=256)
    first, held = _commonest(counts)
    # Cleared, so that no level counts for two tissues.
    counts[first : first + TISSUE_LEVELS] = 0
    return first + TISSUE_LEVELS / 2, (held + _commonest(counts)[1]) / len(values)


def _commonest(counts: np.ndarray) -> tuple[int, int]:
    """Return start and sum of the TISSUE_LEVELS neighbouring counts with the greatest sum."""
    reached = np.concatenate([[0], np.cumsum(counts)])
    inside = reached[TISSUE_LEVELS:] - reached[:-TISSUE_LEVELS]
    first = int(inside.argmax())
    return first, int(inside[first])


def _tilt(values: np.ndarray, tissue: float) -> float:
    """Return the share of values clearly above the tissue's grey minus the share clearly below."""
    # 14 is half of TISSUE_LEVELS: values within 14 levels belong to the tissue itself.
    above = values > tissue + max(14.0, 0.35 * (255 - tissue))
    below = values < tissue - max(14.0, 0.35 * tissue)
    return float(above.mean() - below.mean())
