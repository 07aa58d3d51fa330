"""What the audit keeps of a picture: small pixels, their noise texture, and a rotation-free key.

A copy of a slice may be rotated by any angle, mirrored, cropped, scaled, sharpened, re-encoded or
brightened; its neighbour in the neck may look the same to the eye. Two facts tell them apart.
The log-polar transform turns rotation and scale into shifts, so the magnitude of its Fourier
transform along the angle is the same for every rotation and mirroring (after Reddy & Chatterji,
IEEE Trans. Image Process. 5(8), 1996): that finds candidates. The noise of a scan is one of a
kind: after the pixels are laid over each other it agrees between copies and not between
neighbours. `texture` is that fine detail, divided by its local strength, so that flat tissue
counts as much as edges, and sharpening or a brighter window changes nothing.

Knows nothing of files or of which pictures are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

# Working resolution: the published copies are 224² and hold the noise up to here.
SIDE = 192
# Of the side: what lies outside this disk is lost or filled when a copy is rotated.
RADIUS = 0.46
# A ring step is a change of scale by a tenth, an angle step 2.8 degrees: refinement does the rest.
RINGS, ANGLES = 24, 128
INNER_PX = 4.0  # radius of the innermost ring at SIDE / 2
HARMONICS = 24
_TEXTURE_LIMIT = 2.0  # local standard deviations
TEXTURE_SCALE = 127 / _TEXTURE_LIMIT
# Grey levels: weaker detail than this is rounding, not noise.
_FLAT = 0.5


@dataclass(frozen=True)
class Signature:
    """One picture as the audit compares it.

    Fields:
        fine: uint8 (192, 192), the whole picture, slightly smoothed.
        textures: int8 (192, 192) and (96, 96), detail over its local strength × TEXTURE_SCALE;
            0 where the picture is flat, as in air or saturated bone.
        rings: float32 (24, 128), log-polar detail, zero mean and unit variance.
        key: float32 (24 * 24,), unit length, the same under rotation and mirroring.
        detail: float, standard deviation of `fine`; near 0 for a blank picture.
        sharpness: float, the finest detail's spread over that of the detail twice as coarse.
    """

    fine: np.ndarray
    textures: tuple[np.ndarray, np.ndarray]
    rings: np.ndarray
    key: np.ndarray
    detail: float
    sharpness: float


def describe(grey: np.ndarray) -> Signature:
    """Return the signature of a uint8 (H, W) picture; a picture that is not square is squeezed."""
    pixels = resize(grey, SIDE).astype(np.float32)
    # (96, 96)
    half = shrink(pixels, 2)
    # A middle band: neither noise, which rotation blurs, nor the window's brightness.
    band = ndimage.gaussian_filter(half, 1.0) - ndimage.gaussian_filter(half, 8.0)
    rings = _log_polar(band)
    rings = (rings - rings.mean()) / (rings.std() + 1e-6)
    # The square root keeps a few strong edges from deciding the likeness alone. Harmonic 0 is
    # left out: it is a ring's mean, which a change of window moves.
    # (24 rings, 24 harmonics), in a row.
    key = np.sqrt(np.abs(np.fft.rfft(rings, axis=1)[:, 1 : HARMONICS + 1])).ravel()
    # Smoothed a little, so that gradients mean the picture and not its noise.
    fine = ndimage.gaussian_filter(pixels, 0.7)
    return Signature(
        fine=np.clip(np.rint(fine), 0, 255).astype(np.uint8),
        textures=(_find_texture(pixels), _find_texture(half)),
        rings=rings.astype(np.float32),
        key=(key / (np.linalg.norm(key) + 1e-6)).astype(np.float32),
        detail=float(fine.std()),
        sharpness=_measure_sharpness(pixels, half),
    )


def resize(grey: np.ndarray, side: int) -> np.ndarray:
    """Return uint8 (side, side), antialiased."""
    image = Image.fromarray(grey)
    return np.asarray(
        image.resize(
            (side, side),
            Image.Resampling.BOX if min(grey.shape) >= 2 * side else Image.Resampling.BILINEAR,
        )
    )


def shrink(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Return float32 means over blocks of `factor` × `factor` pixels of a square picture."""
    if factor == 1:
        return pixels.astype(np.float32)
    side = pixels.shape[0] // factor
    # (rows, factor, columns, factor): the means run over each block's own pixels.
    blocks = pixels.reshape(side, factor, side, factor)
    return np.asarray(blocks.mean((1, 3), dtype=np.float32))


def sample(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return float32 (N,), a square picture's bilinear values at `points`, float (2, N).

    Points are (x, y) in pixels from the picture's centre; those outside take the nearest pixel.
    """
    side = pixels.shape[0]
    # Just short of the last pixel, so that there is one to the right and one below.
    place = np.clip(points + np.float32((side - 1) / 2), 0, np.float32(side - 1.001))
    corner = place.astype(np.int32)
    across, down = place - corner
    flat = pixels.ravel()
    index = corner[1] * side + corner[0]
    upper, lower = flat[index], flat[index + side]
    upper = upper + (flat[index + 1] - upper) * across
    lower = lower + (flat[index + side + 1] - lower) * across
    return np.asarray(upper + (lower - upper) * down)


def _log_polar(band: np.ndarray) -> np.ndarray:
    # At equal ratios: a change of scale is then a shift of whole rings.
    radii = np.geomspace(INNER_PX, RADIUS * band.shape[0], RINGS)[:, None]
    angles = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    points = np.stack([(radii * np.cos(angles)).ravel(), (radii * np.sin(angles)).ravel()])
    return sample(band, points.astype(np.float32)).reshape(RINGS, ANGLES)


def _measure_sharpness(pixels: np.ndarray, half: np.ndarray) -> float:
    """Return the ratio of the mean local detail at 192² to that at 96²."""
    spreads = [np.abs(p - ndimage.uniform_filter(p, 3)).mean() for p in (pixels, half)]
    return float(spreads[0] / (spreads[1] + 1e-6))


def _find_texture(pixels: np.ndarray) -> np.ndarray:
    """Return int8 detail of float32 pixels: a band just below the finest, over its local RMS."""
    detail = ndimage.gaussian_filter(pixels - ndimage.gaussian_filter(pixels, 1.0), 0.5)
    strength = np.sqrt(np.maximum(ndimage.uniform_filter(detail * detail, 13), 0.0))
    texture = np.clip(detail / (strength + 0.3), -_TEXTURE_LIMIT, _TEXTURE_LIMIT)
    return np.where(strength > _FLAT, np.rint(texture * TEXTURE_SCALE), 0).astype(np.int8)
