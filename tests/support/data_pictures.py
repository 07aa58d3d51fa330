"""Drawn pictures that the data room's tests read as slices."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture(seed: int, size: int = 64) -> Image.Image:
    """A smooth random grey picture: not a CT, but with structure at every scale."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_slice(volume: int, number: int, size: int = 320) -> Image.Image:
    """A picture like a slice: a volume's blobs, moved a little from slice to slice, and noise."""
    rng = np.random.default_rng(volume)
    y, x = np.mgrid[:size, :size] / size - 0.5
    grey = np.where(np.hypot(x, y) < 0.45, 90.0, 0.0)
    for _ in range(14):
        cx, cy, rx, ry = rng.uniform((-0.28, -0.28, 0.02, 0.02), (0.28, 0.28, 0.11, 0.11))
        moved = cx + 0.004 * number * rng.uniform(-1, 1)
        inside = np.hypot((x - moved) / rx, (y - cy) / ry) < 1
        grey = np.where(inside, rng.uniform(40, 220), grey)
    noise = np.random.default_rng((volume, number)).normal(0, 9, (size, size))
    body = np.hypot(x, y) < 0.45
    return Image.fromarray(np.clip(np.where(body, grey + noise, 0), 0, 255).astype(np.uint8))
