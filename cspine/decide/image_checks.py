"""Fast checks of a picture that refuse what can be no axial CT of the neck, with the reason.

An axial CT has even soft tissue with air round it, few greys between, sharp borders and bone, and
most of it is smooth at the scale of a small picture, about 64 × 64, where all is measured. The
bounds were set on synthetic and real slices. Anatomy is not checked: a CT of the head or a
synthetic one passes, and is left to the embedding distance and the vertebra finder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cspine.imaging.downsample import block_means

SMALL_SIDE_PX = 64
MIN_SIDE_PX = 64
MAX_ASPECT = 1.8
TISSUE_LEVELS = 28  # grey levels that hold one tissue, its noise averaged out
PAPER_LEVEL = 190
MANY_BORDERS = (
    "The picture has more sharp borders than a neck; it may be another part of the body, writing "
    "or a drawing."
)
DISC, CENTRE = 0.97, 0.6  # of the inscribed circle's radius; outside it many exports hold no data


@dataclass(frozen=True)
class Appearance:
    """The quantities that the checks compare; all but `contrast` without unit.

    `contrast` standard deviation of the small picture, grey levels; `grain` mean step between
    neighbouring full-size pixels over it; `two_tones` share of the centre, `disc_tones` of the
    whole disc, that two tissues' grey levels hold; `unrest` median step of the small picture over
    its contrast; `sharp` share of its steps, along rows and columns, above 0.75 of the contrast;
    `smooth` share of places without a step above 0.12 of it; `upright` how much more of the
    picture is clearly brighter in the centre and darker round it than the other way about, −2..2;
    `commonest` the grey level that most of the centre has.
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
    """Return in a sentence why the picture is no axial CT of the neck, or None.

    Args:
        grey: uint8 (H, W).
        is_colour: whether the file's colour channels really differ.
    """
    height, width = grey.shape
    if is_colour:
        return "The picture is in colour, so it is no CT slice."
    if min(height, width) < MIN_SIDE_PX:
        return f"The picture is too small for a CT slice: {width} × {height} pixels."
    if max(height, width) > MAX_ASPECT * min(height, width):
        return "The picture is too long and narrow for an axial CT slice."
    return _refusal(measure(grey))


def _refusal(look: Appearance) -> str | None:
    """Return the first reason that the appearance gives, or None."""
    evenness = look.two_tones + look.disc_tones + look.smooth - 4 * look.unrest
    is_page = look.sharp > 0.1 and look.upright < 0.1 and look.contrast < 60
    if look.grain * look.contrast > 6 and look.grain > 0.6:
        return "The picture is noise."
    if look.contrast < 12:
        return "The picture is blank."
    if is_page or look.sharp > 0.14:
        # A head or a chest is as full of borders as a page, but no body is as bright as paper.
        if look.commonest > PAPER_LEVEL:
            return "The picture looks like a page of text or a drawing."
        return MANY_BORDERS
    if look.sharp < 0.021:
        return "The picture has no sharp border between body and air, as a CT slice has."
    if look.two_tones < 0.68 or look.disc_tones < 0.66:
        return "The picture has no even soft tissue; it may be a radiograph or a photograph."
    if evenness < 1.58 or (look.unrest > 0.055 and look.sharp < 0.036):
        return "The picture looks like a photograph."
    if look.upright < -0.1:
        return "The picture is inverted: air must be dark and bone bright."
    return None


def measure(grey: np.ndarray) -> Appearance:
    """Return the Appearance of a picture, uint8 (H, W), at least 64 pixels a side."""
    small = _shrink(grey)
    centre, ring = (small[zone] for zone in _zones(*small.shape))
    # A blank picture has none to divide by.
    contrast = max(float(small.std()), 1.0)
    tissue, two_tones = _tones(centre)
    # int16: in uint8 a step down would come out as a large step up.
    lines = grey[:: max(1, grey.shape[0] // SMALL_SIDE_PX)].astype(np.int16)
    across, down = (np.abs(np.diff(small, axis=axis)) for axis in (1, 0))
    # (h − 1, w − 1): where both a step across and one down begin.
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
    """Return the commonest tissue's grey level, and the share that the two commonest hold."""
    counts = np.bincount(values.astype(np.int64), minlength=256)
    first, held = _commonest(counts)
    # No level may count for two tissues.
    counts[first : first + TISSUE_LEVELS] = 0
    return first + TISSUE_LEVELS / 2, (held + _commonest(counts)[1]) / len(values)


def _commonest(counts: np.ndarray) -> tuple[int, int]:
    """Return start and sum of the TISSUE_LEVELS neighbouring counts that are the most."""
    reached = np.concatenate([[0], np.cumsum(counts)])
    inside = reached[TISSUE_LEVELS:] - reached[:-TISSUE_LEVELS]
    first = int(inside.argmax())
    return first, int(inside[first])


def _tilt(values: np.ndarray, tissue: float) -> float:
    """Return the share of values clearly above the tissue's grey less the share clearly below."""
    # 14 is half of TISSUE_LEVELS: what is nearer is the tissue itself.
    above = values > tissue + max(14.0, 0.35 * (255 - tissue))
    below = values < tissue - max(14.0, 0.35 * tissue)
    return float(above.mean() - below.mean())
