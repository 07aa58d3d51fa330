"""Augmentation of complete slices, as other scanners, windows and exports would show them.

A network that sees complete slices of few patients learns each series' style: its window, its
sharpness, its noise, and the shape and grey of what lies outside the field of view. Style is drawn
here much more widely than it occurs, so that it does not reveal the class. Rotation and crop are
those of the published copies and a little more.

The changes have no masks: a slice with masks is augmented by `augment.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

MAX_ANGLE = 20.0  # degrees, as in the published copies
ZOOMS = 0.8, 1.25  # least and greatest side of the shown field, as a share of the slice's
STRETCH_SPREAD = 0.05  # of the logarithm of width over height
GAMMA_SPREAD = 0.25  # of the logarithm
GAIN_SPREAD = 0.2  # of the logarithm of the contrast
OFFSET_SPREAD = 15.0  # grey levels
MAX_NOISE = 8.0  # grey levels, standard deviation

# A change of greys, float32 (S, S), and the share of slices that get it.
Change = tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], float]


def augment_slices(
    images: np.ndarray,
    masks: None,
    units: np.ndarray,
    rng: np.random.Generator,
    zooms: tuple[float, float] = ZOOMS,
    changes: Sequence[Change] | None = None,
) -> tuple[np.ndarray, None]:
    """Return augmented copies of slices.

    Args:
        images: uint8 (B, S, S).
        masks: None; the parameter makes the signature that of `augment`.
        units: int (B,); samples of one unit get the same draw.
        rng: the source of every draw.
        zooms: least and greatest side of the shown field, as a share of the slice's side.
        changes: the changes of the greys, in order; None for `CHANGES`.

    Returns:
        Images float32 (B, S, S) in 0…255, and None.
    """
    _, unit = np.unique(units, return_inverse=True)
    # A seed per unit, so that a slice and its twin get the same changes.
    seeds = rng.integers(0, 2**63, int(unit.max()) + 1)[unit]
    pairs = zip(images, seeds, strict=True)
    chosen = CHANGES if changes is None else changes
    copies = [augment_slice(one, np.random.default_rng(s), zooms, chosen) for one, s in pairs]
    return np.stack(copies), None


def augment_slice(
    image: np.ndarray,
    rng: np.random.Generator,
    zooms: tuple[float, float],
    changes: Sequence[Change],
) -> np.ndarray:
    """Return one augmented slice, float32 (S, S) in 0…255, of a slice uint8 (S, S)."""
    grey = _move(image, rng, zooms)
    for change, share in changes:
        if rng.random() < share:
            grey = change(grey, rng)
    noise = rng.uniform(0.0, MAX_NOISE) * rng.standard_normal(grey.shape, np.float32)
    return np.asarray(np.clip(grey + noise, 0.0, 255.0), np.float32)


def _move(image: np.ndarray, rng: np.random.Generator, zooms: tuple[float, float]) -> np.ndarray:
    """Rotate, zoom, stretch and mirror (left to right); new pixels are black."""
    side = len(image)
    zoom, angle = rng.uniform(*zooms), np.deg2rad(rng.uniform(-MAX_ANGLE, MAX_ANGLE))
    stretch = np.exp(rng.normal(0.0, STRETCH_SPREAD))
    # A field smaller than the slice is placed anywhere in it, a larger one anywhere around it.
    corner = side * (1.0 - zoom) * rng.random(2)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    rows = np.array([[cos * stretch, -sin], [sin * stretch, cos]])
    # The centre of the result shows the centre of the field.
    shift = corner + zoom * side / 2 - rows @ [side / 2, side / 2]
    values = (*rows[0], shift[0], *rows[1], shift[1])
    picture = Image.fromarray(image)
    moved = picture.transform(
        picture.size, Image.Transform.AFFINE, values, Image.Resampling.BILINEAR
    )
    grey = np.asarray(moved, np.float32)
    return grey[:, ::-1] if rng.random() < 0.5 else grey


def cover_outside(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill what lies outside a circular field of view with black, white or a grey."""
    half = len(grey) / 2
    radius = rng.uniform(0.75, 1.3) * half
    y, x = half + rng.normal(0.0, 0.1 * half, 2)
    rows, columns = np.ogrid[: len(grey), : len(grey)]
    fill = rng.choice([0.0, 255.0, rng.uniform(0.0, 255.0)])
    outside = (rows - y) ** 2 + (columns - x) ** 2 > radius**2
    return np.where(outside, np.float32(fill), grey)


def cover_patches(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill one to three rectangles with a grey each (random erasing, Zhong et al. 2020)."""
    side, grey = len(grey), grey.copy()
    for _ in range(rng.integers(1, 4)):
        height, width = rng.integers(side // 12, side // 4, 2)
        y, x = rng.integers(0, side - height), rng.integers(0, side - width)
        grey[y : y + height, x : x + width] = rng.uniform(0.0, 255.0)
    return grey


def sharpen_or_blur(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, or sharpen by an unsharp mask."""
    if rng.random() < 0.5:
        return np.asarray(gaussian_filter(grey, rng.uniform(0.3, 1.2)))
    return np.asarray(grey + rng.uniform(0.5, 3.0) * (grey - gaussian_filter(grey, 1.0)))


def bend_greys(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Map the greys by a rising curve of three to six random points."""
    points = rng.integers(3, 7)
    inner = np.sort(rng.uniform(0.0, 255.0, points - 2))
    levels = np.sort(rng.uniform(0.0, 255.0, points))
    # A curve that is too flat would leave nothing to see.
    if levels[-1] - levels[0] < 100:
        levels = levels[0] / 2 + (levels - levels[0]) * 1.8
    return np.asarray(np.interp(grey, [0.0, *inner, 255.0], levels))


def window(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change gamma, contrast about mid-grey, and brightness."""
    grey = np.clip(grey, 0.0, 255.0)
    grey = 255.0 * (grey / 255.0) ** np.exp(rng.normal(0.0, GAMMA_SPREAD))
    gain, offset = np.exp(rng.normal(0.0, GAIN_SPREAD)), rng.normal(0.0, OFFSET_SPREAD)
    return np.asarray((grey - 128.0) * gain + 128.0 + offset)


CHANGES: tuple[Change, ...] = (
    (cover_outside, 0.4),
    (cover_patches, 0.3),
    (sharpen_or_blur, 0.4),
    (bend_greys, 0.4),
    (window, 0.6),
)
