"""A slice and its heat map as inline pictures for the page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

# The pictures are part of the page, and ten mistakes must not make it megabytes large.
MAX_SIDE_PX = 384
JPEG_QUALITY = 85
OPACITY = 0.55


def slice_uri(image: np.ndarray) -> str:
    """Return a uint8 (H, W) picture as a JPEG data URI, at most 384 pixels per side."""
    return _uri(Image.fromarray(np.asarray(image, np.uint8)))


def overlay_uri(image: np.ndarray, heatmap: np.ndarray) -> str:
    """Return the slice with its heat map over it, both uint8 (H, W), as a JPEG data URI.

    The hotter a pixel, the more opaque and the lighter its colour, from red to yellow.
    """
    grey = np.asarray(image, np.float64)
    heat = np.asarray(heatmap, np.float64) / 255.0
    colour = np.stack([np.full_like(heat, 255.0), 60 + 180 * heat, 40 * heat], axis=-1)
    # (H, W, 1), so that it applies to all three channels.
    opacity = (OPACITY * heat)[..., None]
    mixed = grey[..., None] * (1 - opacity) + colour * opacity
    return _uri(Image.fromarray(np.rint(mixed).clip(0, 255).astype(np.uint8)))


def _uri(picture: Image.Image) -> str:
    picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
