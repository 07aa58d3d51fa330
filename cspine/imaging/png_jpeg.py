"""Decoder of PNG and JPEG images to grey pixels, with Pillow.

Pillow gets only the parts of a file that `image_headers.py` keeps. Training and serving share these
rules:

- 16 bits: the high byte of each sample, `value >> 8`, the same for grey and colour.
- Colour: ITU-R BT.601 luma, Pillow's `L`; three equal channels keep their value exactly.
- Alpha: laid over black, which is air.
- EXIF orientation: applied.

OpenCV decodes a 512 × 512 PNG some tenths of a millisecond faster (benchmarks/decode.py): too
little for another dependency.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from cspine.core.errors import ImageError
from cspine.imaging.decoded_image import DecodedImage, GreyArray, Limits
from cspine.imaging.image_headers import Container, read_jpeg, read_png

_COLOUR_SPREAD = 16  # grey levels; chroma that JPEG adds to a grey picture stays below
_COLOUR_SHARE = 0.01  # of the pixels; a coloured caption on a grey slice stays below
_WITH_ALPHA = ("LA", "PA", "RGBA")
_SAMPLED_PX = 128  # is_coloured samples about this many rows and columns
_READERS: dict[str, Callable[[bytes], Container]] = {"png": read_png, "jpeg": read_jpeg}
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def decode_raster(data: bytes, kind: str, limits: Limits) -> DecodedImage:
    """Return the pixels of a PNG or JPEG file.

    Args:
        data: the bytes of the file.
        kind: `png` or `jpeg`.
        limits: of its pixels.

    Raises:
        ImageTooLargeError: more pixels than `limits.max_pixels` or than Pillow's bomb limit.
        UnsupportedImageError: several frames.
        ImageError: the file is damaged or truncated.
    """
    container = _READERS[kind](data)
    limits.check_pixels(container.height, container.width)
    # Checked here as well, since Pillow only warns, and its warnings are process-wide.
    if Image.MAX_IMAGE_PIXELS is not None:
        pillow = Limits(max_pixels=Image.MAX_IMAGE_PIXELS)
        pillow.check_pixels(container.height, container.width)
    grey, is_colour, warnings = _decode(container, kind)
    if kind == "jpeg":
        _check_end(grey)
    return DecodedImage(
        grey=_turn_upright(grey, container.orientation),
        kind=kind,
        is_colour=is_colour,
        warnings=warnings,
        is_synthetic=container.is_synthetic,
    )


def _decode(container: Container, kind: str) -> tuple[GreyArray, bool, tuple[str, ...]]:
    """Return (uint8 (H, W), is_colour, warnings) of a file that passed its header."""
    try:
        image = Image.open(io.BytesIO(container.data), formats=(kind.upper(),))
        # The size that was checked must be the one that is decoded.
        if image.size != (container.width, container.height):
            raise ValueError
        return _to_grey(image)
    except _DAMAGED:
        # Without Pillow's own text, which has offsets and object names that help no user.
        raise ImageError(
            f"The {kind.upper()} file must be whole and valid. Received: damaged or truncated data"
        ) from None


def _check_end(grey: GreyArray) -> None:
    """Check that the coded data of a JPEG reaches the end of the image.

    libjpeg reports no error and leaves what is missing at middle grey (`decode_mcu` in jdhuff.c).

    Raises:
        ImageError: the lowest blocks have no data.
    """
    last_blocks = grey[(len(grey) - 1) // 8 * 8 :]
    if (last_blocks == 128).all():
        raise ImageError("The JPEG file must be whole. Received: one whose lowest rows are missing")


def _to_grey(image: Image.Image) -> tuple[GreyArray, bool, tuple[str, ...]]:
    """Return (uint8 (H, W), is_colour, warnings) of any mode that PNG and JPEG have."""
    image.load()
    if image.mode.startswith("I"):  # 16-bit grey: "I;16", in some versions "I"
        return _high_byte(np.asarray(image))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "L":  # the common case, without a copy
        return np.asarray(image), False, ()
    grey = image.convert("L")
    if image.mode in _WITH_ALPHA:
        # Laid over black by multiplying, which `convert` alone does not: it drops alpha.
        grey = ImageChops.multiply(grey, image.getchannel("A"))
    return np.asarray(grey), is_coloured(image), ()


def _high_byte(samples: npt.NDArray[np.generic]) -> tuple[GreyArray, bool, tuple[str, ...]]:
    """Return the high byte of 16-bit samples, with a warning if only the low bits are used."""
    values = samples.astype(np.uint16)
    warnings: tuple[str, ...] = ()
    if 0 < int(values.max()) < 4096:
        warnings = (
            "The 16-bit picture uses only its lowest 12 bits and comes out nearly black: "
            "window it before saving, or send the DICOM.",
        )
    return (values >> 8).astype(np.uint8), False, warnings


def is_coloured(image: Image.Image) -> bool:
    """Return whether the channels of a Pillow image really differ, from a regular sample of it."""
    # Each side by its own step: a long thin image may have as many pixels as a large square one.
    width, height = (side // max(1, side // _SAMPLED_PX) for side in image.size)
    # Nearest, since an average of neighbours would wash out thin coloured lines.
    sampled = image.resize((width, height), Image.Resampling.NEAREST).convert("RGBA")
    # int32: in uint8 the product with alpha below would wrap round.
    red, green, blue, alpha = np.moveaxis(np.asarray(sampled).astype(np.int32), 2, 0)
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    # Weighted by alpha, since the colour of a transparent pixel is not visible.
    return bool((spread * alpha > _COLOUR_SPREAD * 255).mean() > _COLOUR_SHARE)


def _turn_upright(grey: GreyArray, orientation: int) -> GreyArray:
    """Return the image upright, by its EXIF orientation 1–8 (Exif 2.32, 4.6.4 A)."""
    turned = {
        2: lambda: grey[:, ::-1],
        3: lambda: grey[::-1, ::-1],
        4: lambda: grey[::-1],
        5: lambda: grey.T,
        6: lambda: np.rot90(grey, -1),
        7: lambda: grey[::-1, ::-1].T,
        8: lambda: np.rot90(grey),
    }.get(orientation, lambda: grey)()
    return np.ascontiguousarray(turned)
