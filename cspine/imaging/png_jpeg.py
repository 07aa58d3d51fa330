"""Decoder of PNG and JPEG images to grey pixels, with Pillow.

Pillow gets only the parts of a file that `image_headers.py` keeps. These rules hold in training and
in serving:

- 16 bits: the high byte of each sample, `value >> 8`, is used for grey and colour.
- Colour: Pillow's `L`, the luma of ITU-R BT.601, is used; three equal channels keep their value.
- Alpha: the image is laid over black, which is air.
- EXIF orientation: the image is turned upright.

OpenCV decodes a 512 × 512 PNG some tenths of a millisecond faster (benchmarks/decode.py), which
does not justify another dependency.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from cspine.core.errors import ImageError
from cspine.imaging.decoded_image import DecodedImage, GreyArray, Limits
from cspine.imaging.image_headers import Container, read_jpeg, read_png

NEARLY_BLACK = (
    "The 16-bit picture uses only its lowest 12 bits and appears nearly black: apply a window "
    "before saving it, or send the DICOM file."
)
_COLOUR_SPREAD = 16  # grey levels; chroma that JPEG adds to a grey picture is less
_COLOUR_SHARE = 0.01  # of the pixels; a coloured caption on a grey slice has fewer
_WITH_ALPHA = ("LA", "PA", "RGBA")
_SAMPLED_PX = 128  # is_coloured samples about this many rows and columns
_READERS: dict[str, Callable[[bytes], Container]] = {"png": read_png, "jpeg": read_jpeg}
_END_OF_IMAGE = b"\xff\xd9"
# Some thousand random bits, several times: after a cut inside a code, one of them may be no code.
_MORE_CODED_DATA = [np.random.default_rng(n).integers(0, 255, 512, np.uint8) for n in range(6)]
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
        limits: largest number of pixels.

    Raises:
        ImageTooLargeError: the image has more pixels than `limits.max_pixels` or than Pillow's
            decompression-bomb limit.
        UnsupportedImageError: the file has several frames.
        ImageError: the file is damaged or truncated.
    """
    container = _READERS[kind](data)
    limits.check_pixels(container.height, container.width)
    # Pillow's limit is checked here as well, because Pillow itself only gives a warning, and Python
    # warnings are process-wide.
    if Image.MAX_IMAGE_PIXELS is not None:
        pillow = Limits(max_pixels=Image.MAX_IMAGE_PIXELS)
        pillow.check_pixels(container.height, container.width)
    grey, is_colour, warnings = _decode(container, kind)
    if kind == "jpeg":
        _check_end(grey, container)
    return DecodedImage(
        grey=_turn_upright(grey, container.orientation),
        kind=kind,
        is_colour=is_colour,
        warnings=warnings,
        is_synthetic=container.is_synthetic,
    )


def _decode(container: Container, kind: str) -> tuple[GreyArray, bool, tuple[str, ...]]:
    """Return (uint8 (H, W), is_colour, warnings) of a file with a checked header."""
    try:
        image = Image.open(io.BytesIO(container.data), formats=(kind.upper(),))
        # The decoded size must be the size that was checked.
        if image.size != (container.width, container.height):
            raise ValueError
        return _to_grey(image)
    except _DAMAGED:
        # Pillow's own text is left out: its offsets and object names do not help users.
        raise ImageError(
            f"The {kind.upper()} file must be whole and valid. Received: damaged or truncated data"
        ) from None


def _check_end(grey: GreyArray, container: Container) -> None:
    """Check that the coded data of a JPEG extend to the end of the image.

    libjpeg reports no error and fills missing blocks with middle grey (`decode_mcu` in jdhuff.c).
    A picture may also end in middle grey. Then more coded data are added: they change a picture
    whose blocks are missing, and are ignored in a whole one.

    Raises:
        ImageError: the lowest blocks have no data.
    """
    height, width = grey.shape
    last_block = grey[(height - 1) // 8 * 8 :, (width - 1) // 8 * 8 :]
    if not (last_block == 128).all():
        return
    end = container.data.rfind(_END_OF_IMAGE)
    for more in _MORE_CODED_DATA:
        longer = container.data[:end] + more.tobytes() + container.data[end:]
        if not np.array_equal(grey, _decode(replace(container, data=longer), "jpeg")[0]):
            raise ImageError(
                "The JPEG file must be whole. Received: one whose lowest rows are missing"
            )


def _to_grey(image: Image.Image) -> tuple[GreyArray, bool, tuple[str, ...]]:
    """Return (uint8 (H, W), is_colour, warnings) of an image of any mode of PNG and JPEG."""
    image.load()
    if image.mode.startswith("I"):  # 16-bit grey is "I;16", or "I" in some versions of Pillow
        return _high_byte(np.asarray(image))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "L":  # the common case, without a copy
        return np.asarray(image), False, ()
    grey = image.convert("L")
    if image.mode in _WITH_ALPHA:
        # Multiplying by alpha lays the image over black; `convert` only drops alpha.
        grey = ImageChops.multiply(grey, image.getchannel("A"))
    return np.asarray(grey), is_coloured(image), ()


def _high_byte(samples: npt.NDArray[np.generic]) -> tuple[GreyArray, bool, tuple[str, ...]]:
    """Return the high byte of 16-bit samples, with a warning if only the low bits are used."""
    values = samples.astype(np.uint16)
    warnings: tuple[str, ...] = ()
    if 0 < int(values.max()) < 4096:
        warnings = (NEARLY_BLACK,)
    return (values >> 8).astype(np.uint8), False, warnings


def is_coloured(image: Image.Image) -> bool:
    """Return whether the channels of a Pillow image differ visibly, judged by a regular sample."""
    # Each side has its own step, because a long thin image may have very many columns or rows.
    width, height = (side // max(1, side // _SAMPLED_PX) for side in image.size)
    # NEAREST is used, because averaging neighbours would wash out thin coloured lines.
    sampled = image.resize((width, height), Image.Resampling.NEAREST).convert("RGBA")
    # In uint8 the product with alpha below would overflow.
    red, green, blue, alpha = np.moveaxis(np.asarray(sampled).astype(np.int32), 2, 0)
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    # The spread is weighted by alpha, because the colour of a transparent pixel is not visible.
    return bool((spread * alpha > _COLOUR_SPREAD * 255).mean() > _COLOUR_SHARE)


def _turn_upright(grey: GreyArray, orientation: int) -> GreyArray:
    """Return the image turned upright by its EXIF orientation, 1–8 (Exif 2.32, 4.6.4 A)."""
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
