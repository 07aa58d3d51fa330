"""PNG and JPEG pictures to grey pixels, with Pillow.

Pillow gets only what `image_headers.py` has let through. Training and serving share the rules:

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

from cspine.core.errors import ImageError, ImageTooLargeError
from cspine.imaging.decoded_image import DecodedImage, GreyArray, Limits
from cspine.imaging.image_headers import Container, read_jpeg, read_png

_COLOUR_SPREAD = 16  # grey levels; chroma that JPEG adds to a grey picture stays below
_COLOUR_SHARE = 0.01  # of the pixels; a coloured caption on a grey slice stays below
_WITH_ALPHA = ("LA", "PA", "RGBA")
_SAMPLED_PX = 128  # is_coloured looks at about this many rows and columns
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
    """Return the pixels of a PNG or JPEG file; `kind` is `png` or `jpeg`.

    Raises:
        ImageTooLargeError: more pixels than `limits.max_pixels` or than Pillow's bomb limit.
        UnsupportedImageError: several frames.
        ImageError: the file is damaged or truncated.
    """
    container = _READERS[kind](data)
    limits.check_pixels(container.height, container.width)
    _check_bomb(container)
    grey, is_colour, warnings = _decode(container, kind)
    if kind == "jpeg":
        _check_end(grey)
    return DecodedImage(
        _turn_upright(grey, container.orientation),
        kind,
        is_colour,
        warnings=warnings,
        is_synthetic=container.is_synthetic,
    )


def _check_bomb(container: Container) -> None:
    """Raise where Pillow would warn of a bomb: its warning is process-wide, an error is not."""
    allowed = Image.MAX_IMAGE_PIXELS
    if allowed is not None and container.height * container.width > allowed:
        raise ImageTooLargeError(
            f"`image` must have at most {allowed} pixels. "
            f"Received: {container.width} × {container.height}"
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
        # Pillow's words are left out: they hold offsets and object names, nothing to act on.
        raise ImageError(
            f"The {kind.upper()} file must be whole and valid. Received: damaged or truncated data"
        ) from None


def _check_end(grey: GreyArray) -> None:
    """Raise where a JPEG's coded data ended before its picture did.

    libjpeg says nothing and leaves what is missing at middle grey (`decode_mcu` in jdhuff.c).
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
    if image.mode == "L":  # the common case, and the one where each copy counts
        return np.asarray(image), False, ()
    grey = image.convert("L")
    if image.mode in _WITH_ALPHA:
        # Laid over black by multiplying, which `convert` alone does not: it drops alpha.
        grey = ImageChops.multiply(grey, image.getchannel("A"))
    return np.asarray(grey), is_coloured(image), ()


def _high_byte(samples: npt.NDArray[np.generic]) -> tuple[GreyArray, bool, tuple[str, ...]]:
    """Return the high byte of 16-bit samples, and a warning where they are hardly used."""
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
    # Each side by a step of its own: a long thin picture has as many pixels as a large square one.
    width, height = (side // max(1, side // _SAMPLED_PX) for side in image.size)
    # Nearest, since an average of neighbours would wash out thin coloured lines.
    sampled = image.resize((width, height), Image.Resampling.NEAREST).convert("RGBA")
    # int32: in uint8 the product with alpha below would wrap round.
    red, green, blue, alpha = np.moveaxis(np.asarray(sampled).astype(np.int32), 2, 0)
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    # Weighed by alpha, since the hidden colour of a clear pixel is no colour.
    return bool((spread * alpha > _COLOUR_SPREAD * 255).mean() > _COLOUR_SHARE)


def _turn_upright(grey: GreyArray, orientation: int) -> GreyArray:
    """Return the picture as EXIF orientation 1–8 says that it is to be seen."""
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
