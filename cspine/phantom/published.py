"""The published set's habits: names, size, and the copies made of each slice before publication.

Counted from the published names: each slice has 20 copies, three rotated, nine rotated twice, two
sharpened and three rotations of each. Angles are small and arbitrary, corners black.
"""

from __future__ import annotations

from PIL import Image, ImageFilter

from cspine.phantom.patient import Rng

PUBLISHED_SIDE_PX = 224
_FIRST_SERIES = 10
_LAST_NUMBER = 150


def published_name(series: int, index: int, count: int) -> str:
    """Return a stem like `CSFDV1B10 (18)`; slice numbers run from 1 to about 150, top down."""
    step = max(1, _LAST_NUMBER // count)
    return f"CSFDV1B{_FIRST_SERIES + series} ({1 + index * step})"


def make_variants(picture: Image.Image, rng: Rng) -> dict[str, Image.Image]:
    """Return the original under the empty suffix, and its 20 copies, angles drawn from `rng`."""

    def rotated(source: Image.Image) -> Image.Image:
        angle = float(rng.choice([-1, 1]) * rng.uniform(4, 20))
        return source.rotate(angle, Image.Resampling.BILINEAR)

    copies = {"": picture}
    for first in (1, 2, 3):
        copies[f"-rotated{first}"] = rotated(picture)
        for second in (1, 2, 3):
            copies[f"-rotated{first}-rotated{second}"] = rotated(copies[f"-rotated{first}"])
    sharper = picture.filter(ImageFilter.UnsharpMask(radius=2, percent=350, threshold=0))
    for name in ("-sharpened", "-sharpened1"):
        copies[name] = sharper
        sharper = sharper.filter(ImageFilter.SHARPEN)
        for second in (1, 2, 3):
            copies[f"{name}-rotated{second}"] = rotated(copies[name])
    return copies
