"""Reader of one DICOM frame's stored values: native, RLE, JPEG, JPEG-LS or JPEG 2000.

The header of a compressed stream is compared with the data set before a decoder allocates memory.
The decoder runs in a child process.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cspine.core.errors import ImageError, UnsupportedImageError
from cspine.imaging.dicom.codec_pool import decode_in_child
from cspine.imaging.dicom.elements import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Elements,
)
from cspine.imaging.image_headers import jpeg_segments, parse_frame

_NATIVE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG)
_RLE = "1.2.840.10008.1.2.5"
# PS3.5 A.4.1 to A.4.4: baseline, extended, lossless and lossless SV1.
_JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_MAX_TILES = 1024  # of a JPEG 2000 stream; every tile, even a small one, costs decoder memory

StoredArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class PixelFormat:
    """Storage of the samples, one per pixel (PS3.3 C.7.6.3), with sizes in pixels and bits."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool

    @property
    def dtype(self) -> str:
        """The numpy type of a stored sample, without byte order."""
        return f"{'i' if self.is_signed else 'u'}{self.bits_allocated // 8}"


def read_stored_values(elements: Elements, form: PixelFormat) -> StoredArray:
    """Return the stored values, an integer array (H, W), of the one frame in `elements`.

    Raises:
        UnsupportedImageError: the transfer syntax is not supported.
        ImageError: the pixel data are missing, too short or damaged.
    """
    syntax = elements.transfer_syntax
    if syntax in _NATIVE:
        samples = _read_native(elements, form)
    elif syntax in (_RLE, *_JPEG, *_JPEG_LS, *_JPEG_2000):
        samples = _decode_stream(_join(elements), syntax, form)
    else:
        raise UnsupportedImageError(
            "The DICOM transfer syntax must be uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000. "
            f"Received: {syntax}"
        )
    return _keep_stored_bits(samples, form).reshape(form.rows, form.columns)


def _read_native(elements: Elements, form: PixelFormat) -> StoredArray:
    if elements.pixels is None:
        raise ImageError("Uncompressed pixel data must not be encapsulated. Received: fragments")
    # Big-endian 8-bit samples are refused: as OW their bytes are swapped, as OB they are not (PS3.5
    # annex D).
    if form.bits_allocated == 8 and elements.order == ">":
        raise UnsupportedImageError("Big-endian pixel data must have 16 bits. Received: 8")
    count = form.rows * form.columns
    if len(elements.pixels) < count * form.bits_allocated // 8:
        raise ImageError(
            f"Pixel data must have {count * form.bits_allocated // 8} bytes. "
            f"Received: {len(elements.pixels)}"
        )
    return np.frombuffer(elements.pixels, elements.order + form.dtype, count)


def _join(elements: Elements) -> bytes:
    """Return all fragments as one stream; files of several frames were refused before."""
    if not elements.fragments:
        raise ImageError("Compressed pixel data must be in fragments. Received: none")
    return b"".join(elements.fragments)


def _keep_stored_bits(samples: StoredArray, form: PixelFormat) -> StoredArray:
    """Return the lowest `bits_stored` bits of each sample, sign-extended if signed.

    The other bits are undefined (PS3.5 8.1.1).
    """
    spare = samples.dtype.itemsize * 8 - form.bits_stored
    if spare <= 0:
        return samples
    if form.is_signed:
        # The left shift drops the upper bits; the arithmetic right shift extends the sign.
        return (samples << spare) >> spare
    return samples & ((1 << form.bits_stored) - 1)


def _decode_stream(stream: bytes, syntax: str, form: PixelFormat) -> StoredArray:
    """Return the samples of a compressed frame, decoded by GDCM in a child process."""
    bits = (form.bits_allocated, form.bits_stored)
    if syntax != _RLE:
        precision = _check_header(stream, syntax, form)
        if syntax not in _JPEG:  # JPEG-LS and JPEG 2000 decode to the stream's own precision
            bits = (8 if precision <= 8 else 16, precision)
    frame = decode_in_child(stream, syntax, (form.rows, form.columns), bits, form.is_signed)
    dtype = f"<{'i' if form.is_signed else 'u'}{bits[0] // 8}"
    return np.frombuffer(frame, dtype, form.rows * form.columns)


def _check_header(stream: bytes, syntax: str, form: PixelFormat) -> int:
    """Check the stream's header against `form` and return its number of bits per sample."""
    read = _read_j2k_header if syntax in _JPEG_2000 else _read_jpeg_header
    height, width, components, precision = read(stream)
    if (height, width, components) != (form.rows, form.columns, 1):
        raise ImageError(
            f"The compressed stream must be {form.columns} × {form.rows} with 1 component. "
            f"Received: {width} × {height} with {components}"
        )
    # JPEG-LS has at least 2 bits (ITU-T T.87), and CT never has 1 bit.
    if not 2 <= precision <= form.bits_allocated:
        raise ImageError(
            f"The compressed stream must have 2–{form.bits_allocated} bits. Received: {precision}"
        )
    return precision


def _read_jpeg_header(stream: bytes) -> tuple[int, int, int, int]:
    """Return (height, width, components, precision) of a JPEG or JPEG-LS stream."""
    if not stream.startswith(b"\xff\xd8"):
        raise ImageError("A JPEG stream must begin with SOI. Received: other bytes")
    for marker, start, end in jpeg_segments(stream):
        if frame := parse_frame(marker, stream[start:end]):
            return frame.height, frame.width, frame.components, frame.bit_depth
    raise ImageError("A JPEG stream must have a frame header. Received: none")


def _read_j2k_header(stream: bytes) -> tuple[int, int, int, int]:
    """Return (height, width, components, precision) from the SIZ marker (ISO/IEC 15444-1 A.5.1)."""
    start = stream.find(b"\xff\x4f\xff\x51", 0, 4096)  # JP2 boxes may precede the stream
    if start < 0 or len(stream) < start + 43:
        raise ImageError("A JPEG 2000 stream must begin with SOC and SIZ. Received: other bytes")
    # SOC, SIZ, Lsiz and Rsiz take 2 bytes each before these fields.
    x1, y1, x0, y0, tile_x, tile_y, *_ = struct.unpack_from(">8I", stream, start + 8)
    components, depth = struct.unpack_from(">HB", stream, start + 40)
    # The tiles' offsets are ignored, because offsets can only reduce the number of tiles.
    if tile_x == 0 or tile_y == 0 or -(-x1 // tile_x) * -(-y1 // tile_y) > _MAX_TILES:
        raise ImageError(
            f"A JPEG 2000 stream must have 1–{_MAX_TILES} tiles. Received: another number"
        )
    # The highest bit of Ssiz is set for signed samples; the other bits are the depth minus 1.
    return y1 - y0, x1 - x0, components, (depth & 0x7F) + 1
