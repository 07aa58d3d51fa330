"""Signature of an image: its reduced pixels, its noise texture and a rotation-invariant key.

A copy of a slice may be rotated by any angle, mirrored, cropped, scaled, sharpened, re-encoded or
brightened, while the neighbouring slice in the neck may look almost the same. Two facts help:

- The log-polar transform turns rotation and scale into shifts, so the magnitude of its Fourier
  transform along the angle is the same for every rotation and mirroring (after Reddy & Chatterji,
  IEEE Trans. Image Process. 5(8), 1996). This magnitude is the key, which finds candidates.
- The noise of every slice is different. After registration, it agrees between copies, but not
  between neighbouring slices. The texture is this fine detail divided by its local strength, so
  that flat tissue counts as much as edges, and sharpening or a brighter window changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from cspine.imaging.downsample import block_means

# Working resolution in pixels. The published copies have 224² pixels and keep noise up to 192².
SIDE = 192
# Radius of the disk that is compared, as a share of the side. Pixels outside the disk are lost or
# filled when a copy is rotated.
RADIUS = 0.46
# A ring step changes the scale by a tenth, and an angle step is 2.8 degrees, which is near enough
# for the refinement to start.
RINGS, ANGLES = 24, 128
INNER_PX = 4.0  # radius of the innermost ring at SIDE / 2
HARMONICS = 24
_TEXTURE_LIMIT = 2.0  # local standard deviations
TEXTURE_SCALE = 127 / _TEXTURE_LIMIT
# Detail weaker than this, in grey levels, is rounding and not noise.
_FLAT = 0.5


@dataclass(frozen=True)
class Signature:
    """The features by which the audit compares one image.

    Fields:
        fine: uint8 (192, 192), the whole image, slightly smoothed.
        textures: int8 (192, 192) and (96, 96), detail divided by its local strength, times
            TEXTURE_SCALE; 0 if the image is flat there, as in air or saturated bone.
        rings: float32 (24, 128), log-polar detail, zero mean and unit variance.
        key: float32 (24 * 24,), of length 1, the same under rotation and mirroring.
        detail: float, standard deviation of `fine`; near 0 for a blank image.
        sharpness: float, spread of the finest detail divided by the spread of detail twice as
            coarse.
    """

    fine: np.ndarray
    textures: tuple[np.ndarray, np.ndarray]
    rings: np.ndarray
    key: np.ndarray
    detail: float
    sharpness: float


def describe(grey: np.ndarray) -> Signature:
    """Return the signature of a uint8 (H, W) image, which is squeezed to a square if need be."""
    small = resize(grey, SIDE)
    pixels = small.astype(np.float32)
    half = block_means(small, 2)  # (96, 96)
    # The middle frequencies hold neither noise, which rotation blurs, nor the window's brightness.
    band = ndimage.gaussian_filter(half, 1.0) - ndimage.gaussian_filter(half, 8.0)
    rings = _log_polar(band)
    rings = (rings - rings.mean()) / (rings.std() + 1e-6)
    # The key is (24 rings, 24 harmonics), flattened. The square root keeps a few strong edges from
    # deciding the similarity alone. Harmonic 0 is left out, because it is the mean of a ring, which
    # a change of window moves.
    key = np.sqrt(np.abs(np.fft.rfft(rings, axis=1)[:, 1 : HARMONICS + 1])).ravel()
    # Light smoothing makes the gradients come from the image and not from its noise.
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
    """Return the image resized to uint8 (side, side), antialiased."""
    method = Image.Resampling.BOX if min(grey.shape) >= 2 * side else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(grey).resize((side, side), method))


def sample(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return float32 (N,), the bilinear values of a square image at `points`.

    The interpolation is written out, because `ndimage.map_coordinates` takes several times as long.

    Args:
        pixels: float32 (S, S).
        points: float32 (2, N), (x, y) in pixels from the centre; points outside the image take the
            nearest pixel.
    """
    side = pixels.shape[0]
    # Points end just short of the last pixel, so that a pixel follows to the right and below.
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
    # The radii have equal ratios, so that a change of scale is a shift of the rings.
    radii = np.geomspace(INNER_PX, RADIUS * band.shape[0], RINGS)[:, None]
    angles = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    points = np.stack([(radii * np.cos(angles)).ravel(), (radii * np.sin(angles)).ravel()])
    return sample(band, points.astype(np.float32)).reshape(RINGS, ANGLES)


def _measure_sharpness(pixels: np.ndarray, half: np.ndarray) -> float:
    """Return the mean local detail at 192² divided by the mean local detail at 96²."""
    spreads = [np.abs(p - ndimage.uniform_filter(p, 3)).mean() for p in (pixels, half)]
    return float(spreads[0] / (spreads[1] + 1e-6))


def _find_texture(pixels: np.ndarray) -> np.ndarray:
    """Return as int8 the detail of float32 pixels just below the finest, over its local RMS."""
    detail = ndimage.gaussian_filter(pixels - ndimage.gaussian_filter(pixels, 1.0), 0.5)
    strength = np.sqrt(np.maximum(ndimage.uniform_filter(detail * detail, 13), 0.0))
    texture = np.clip(detail / (strength + 0.3), -_TEXTURE_LIMIT, _TEXTURE_LIMIT)
    return np.where(strength > _FLAT, np.rint(texture * TEXTURE_SCALE), 0).astype(np.int8)
