"""Decoder of image files, which finds the format of the bytes and calls its decoder.

The format is found by content, never by a file name or a Content-Type. PNG, JPEG and DICOM CT are
allowed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from cspine.core.errors import ImageError, UnsupportedImageError
from cspine.core.labels import FIXED_WINDOW
from cspine.imaging.decoded_image import DecodedImage, Limits
from cspine.imaging.dicom.decode import decode_dicom
from cspine.imaging.dicom.elements import is_dicom
from cspine.imaging.image_headers import JPEG_SIGNATURE, PNG_SIGNATURE
from cspine.imaging.png_jpeg import decode_raster, is_coloured

__all__ = ["DecodedImage", "Limits", "decode_image", "image_from_array"]

# Common formats that are not supported. The error names them, so that users know what they sent.
_NAMED = (
    (b"GIF8", "GIF"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"), (b"\x1f\x8b", "gzip"), (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"n+1\0", "NIfTI"), (b"{", "JSON"),
)  # fmt: skip
# Texts that a download or a checkout leaves in place of an image, by how they begin in lower case.
_TEXTS = (
    (b"<!doctype html", "a web page, such as a sign-in or error page"),
    (b"<html", "a web page, such as a sign-in or error page"),
    (b"<", "HTML or XML"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
)
_TEXT_BYTES = 1024  # in which the kind of a text is looked for


def decode_image(
    data: bytes,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    dicom_window: str = FIXED_WINDOW,
) -> DecodedImage:
    """Return the pixels of a PNG, JPEG or DICOM CT file.

    Args:
        data: the bytes of the file.
        limits: the largest number of bytes and pixels.
        dicom_window: `fixed`, so that `grey` depends on the Hounsfield units alone, or `header` for
            models that learned from pictures made with each file's display window.

    Raises:
        ImageTooLargeError: the file has more bytes or pixels than `limits`.
        UnsupportedImageError: the file has another format, modality or transfer syntax, or
            several frames.
        ImageError: the file is empty, truncated or damaged.
    """
    limits.check_bytes(len(data))
    if not data:
        raise ImageError("`image` must hold a PNG, JPEG or DICOM file. Received: 0 bytes")
    if data.startswith(PNG_SIGNATURE):
        return decode_raster(data, "png", limits)
    if data.startswith(JPEG_SIGNATURE):
        return decode_raster(data, "jpeg", limits)
    # DICOM is tried last, because a DICOM file without its preamble has no signature.
    if is_dicom(data):
        return decode_dicom(data, limits, dicom_window)
    raise UnsupportedImageError(
        f"`image` must be PNG, JPEG or DICOM. Received: {name_format(data)}"
    )


def name_format(data: bytes) -> str:
    """Return the name of an unsupported format, by the first bytes of the file."""
    if data[4:8] == b"ftyp":
        return "HEIC, AVIF or MP4"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    text = data[:_TEXT_BYTES].lstrip().lower()
    # The body of a WADO-RS response (PS3.18 8.6.1.2.1): parts that begin with a boundary.
    if text.startswith(b"--") and b"content-type:" in text:
        return "a multipart body: ask for one instance"
    named = [name for magic, name in _NAMED if data.startswith(magic)]
    named += [name for start, name in _TEXTS if text.startswith(start)]
    return named[0] if named else "an unknown format"


def image_from_array(pixels: npt.NDArray[np.uint8]) -> DecodedImage:
    """Return a decoded image, as `decode_image` does, of pixels uint8 (H, W) or (H, W, 3).

    Raises:
        ImageError: `pixels` has another shape or dtype, or is empty.
    """
    is_rgb = pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or pixels.size == 0 or not (pixels.ndim == 2 or is_rgb):
        raise ImageError(
            "`pixels` must be uint8 of shape (H, W) or (H, W, 3). "
            f"Received: {pixels.dtype} of shape {pixels.shape}"
        )
    if not is_rgb:
        return DecodedImage(np.ascontiguousarray(pixels), "array")
    colour = Image.fromarray(pixels)
    return DecodedImage(np.asarray(colour.convert("L")), "array", is_coloured(colour))
