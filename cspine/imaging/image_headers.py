"""Reader of PNG and JPEG headers: size, orientation and frames, before any pixel is decoded.

`read_png` and `read_jpeg` walk over the chunks or segments and return a file that holds only what
the pixels need, so that no decoder reads an ICC profile, a text chunk, a thumbnail or a second
frame. `png_jpeg.py` decodes the returned file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from cspine.core.errors import ImageError, UnsupportedImageError
from cspine.core.synthetic_mark import PNG_CONTENT

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
_PNG_KEPT = (b"PLTE", b"tRNS", b"IDAT", b"IEND")
_EXIF_ORIENTATION = 0x0112

_SOS, _EOI = 0xDA, 0xD9
_STANDALONE = (0x01, *range(0xD0, 0xD9))  # TEM, RSTn and SOI have no length
_NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # DHT, JPG and DAC are numbered among the SOFn markers
_JPEG_LS_FRAME = 0xF7
_FILL_BYTES = re.compile(rb"\xff{2,}")  # any number may precede a marker (B.1.1.2)
_MAX_PARTS = 50_000  # chunks or segments; an encoder writes one per 8 KB or more
_MAX_SCANS = 32  # encoders write about 10
# The markers of frames, Huffman and quantisation tables, the restart interval, and of the JFIF and
# Adobe segments, which specify the coding of colours.
_KEPT_MARKERS = (0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xE0, 0xEE)


@dataclass(frozen=True)
class Container:
    """An image's size in stored (unrotated) pixels and the bytes that its pixels need.

    `orientation` is the EXIF value, 1–8. `is_synthetic` is True if a PNG has the mark of
    `core/synthetic_mark.py`.
    """

    width: int
    height: int
    orientation: int
    data: bytes
    is_synthetic: bool = False


def read_png(data: bytes) -> Container:
    """Return the container of a PNG (ISO/IEC 15948, clause 5) without ancillary chunks but tRNS.

    Raises:
        UnsupportedImageError: the file is an animated PNG.
        ImageError: the chunks are truncated or out of order, or the size is zero.
    """
    chunks = _png_chunks(data)
    name, start, end = next(chunks)
    if name != b"IHDR" or end - start != 13:
        raise ImageError("A PNG must begin with an IHDR chunk of 13 bytes. Received: another chunk")
    width, height = struct.unpack_from(">II", data, start)
    if not width or not height:
        raise ImageError(f"A PNG must have pixels. Received: {width} × {height}")
    # The decoder verifies the checksum, which is the 4 bytes after each chunk.
    kept = [data[: end + 4]]
    orientation: int | None = None
    is_synthetic = False
    for name, start, end in chunks:
        if name == b"acTL":
            raise UnsupportedImageError("A PNG must hold one frame. Received: an animated PNG")
        if name == b"IHDR":
            raise ImageError("A PNG must have one IHDR chunk. Received: several")
        if name == b"tEXt" and data[start:end] == PNG_CONTENT:
            is_synthetic = True
        elif name == b"eXIf" and orientation is None:
            orientation = read_orientation(data[start:end])
        elif name in _PNG_KEPT:
            kept.append(data[start - 8 : end + 4])
    return Container(
        width=width,
        height=height,
        orientation=orientation or 1,
        data=b"".join(kept),
        is_synthetic=is_synthetic,
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end of the content) of each chunk up to IEND."""
    position = len(PNG_SIGNATURE)
    for _ in range(_MAX_PARTS):
        # A chunk has at least a length, a name and a checksum, of 4 bytes each.
        if position + 12 > len(data):
            raise ImageError("The PNG file must be whole. Received: a truncated file")
        length, name = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + 8 + length
        if end + 4 > len(data):
            raise ImageError("The PNG file must be whole. Received: a truncated file")
        yield name, start, end
        if name == b"IEND":
            return
        position = end + 4
    raise ImageError(f"A PNG must have at most {_MAX_PARTS} chunks. Received: more")


@dataclass(frozen=True)
class JpegFrame:
    """The frame header of a JPEG or JPEG-LS stream (ISO/IEC 10918-1 B.2.2)."""

    marker: int
    bit_depth: int
    height: int
    width: int
    components: int


def read_jpeg(data: bytes) -> Container:
    """Return the container of a JPEG, with no APPn segments except JFIF and Adobe.

    Raises:
        UnsupportedImageError: the file has several pictures (MPO), or its coding is not baseline
            or progressive with 8 bits.
        ImageError: the segments are truncated or out of order, or the size is zero.
    """
    kept = [data[:2]]
    orientation: int | None = None
    frame: JpegFrame | None = None
    for marker, start, end in jpeg_segments(data):
        content = data[start:end]
        if marker == 0xE2 and content.startswith(b"MPF\0"):
            raise UnsupportedImageError("A JPEG must hold one picture. Received: an MPO file")
        if marker == 0xE1 and content.startswith(b"Exif\0\0") and orientation is None:
            orientation = read_orientation(content[6:])
        found = parse_frame(marker, content)
        if found and frame:
            raise ImageError("A JPEG must have one frame header. Received: several")
        frame = found or frame
        if marker == _SOS:
            _check_scans(data, start - 4)
            # Everything after SOS is kept, because coded data have no length field by which to find
            # the later scans.
            kept.append(data[start - 4 :])
        # Pillow reads further markers as frame headers, so only the listed markers are kept.
        elif marker in _KEPT_MARKERS:
            kept.append(data[start - 4 : end])
    if frame is None or 0 in (frame.height, frame.width):
        raise ImageError("A JPEG must have pixels. Received: no frame header, or one with none")
    if frame.marker not in (0xC0, 0xC1, 0xC2) or frame.bit_depth != 8:
        raise UnsupportedImageError(
            "A JPEG must be baseline or progressive with 8 bits. Received: another process"
        )
    # Each 8 × 8 block takes at least one bit; libjpeg silently fills missing blocks with grey.
    if len(data) * 8 < -(-frame.width // 8) * -(-frame.height // 8):
        raise ImageError("The JPEG file must be whole. Received: too little data for its size")
    return Container(frame.width, frame.height, orientation or 1, b"".join(kept))


def _check_scans(data: bytes, start: int) -> None:
    """Check the number of scans of a progressive JPEG, since each scan takes time to decode."""
    # Coded data cannot contain the marker by chance: their FF is followed by 00 or RSTn (B.1.1.5).
    count = data.count(bytes((0xFF, _SOS)), start)
    if count > _MAX_SCANS:
        raise ImageError(f"A JPEG must have at most {_MAX_SCANS} scans. Received: {count}")


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end of the content) of each segment up to and including SOS.

    Raises:
        ImageError: a segment is truncated, or a marker is missing.
    """
    position = 2
    for _ in range(_MAX_PARTS):
        if filled := _FILL_BYTES.match(data, position):
            position = filled.end() - 1
        if position + 4 > len(data):
            raise ImageError("The JPEG stream must be whole. Received: a truncated one")
        prefix, marker, length = struct.unpack_from(">BBH", data, position)
        if prefix != 0xFF or marker == _EOI:
            raise ImageError("A JPEG stream must hold segments. Received: other bytes")
        if marker in _STANDALONE:
            position += 2
            continue
        if length < 2 or position + 2 + length > len(data):
            raise ImageError("The JPEG stream must be whole. Received: a truncated one")
        yield marker, position + 4, position + 2 + length
        if marker == _SOS:
            return
        position += 2 + length
    raise ImageError(f"A JPEG must have at most {_MAX_PARTS} segments. Received: more")


def parse_frame(marker: int, content: bytes) -> JpegFrame | None:
    """Return the frame header if `marker` starts one (SOF0–SOF15, JPEG-LS's SOF55), else None."""
    is_frame = (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES) or marker == _JPEG_LS_FRAME
    if not is_frame or len(content) < 6:
        return None
    return JpegFrame(marker, *struct.unpack_from(">BHHB", content))


def read_orientation(exif: bytes) -> int:
    """Return the EXIF orientation, 1–8, of a TIFF structure; 1 if it has no valid one.

    Only the entries of the first directory are read (Exif 2.32, 4.6.4 A), and only the offset to
    that directory is followed.
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return 1
    directory = struct.unpack_from(order + "I", exif, 4)[0]
    if directory + 2 > len(exif):
        return 1
    count = struct.unpack_from(order + "H", exif, directory)[0]
    last = min(count, (len(exif) - directory - 2) // 12)
    for index in range(last):
        # Kind 3 is SHORT, whose value is in the first two of the four value bytes.
        tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, directory + 2 + 12 * index)
        if tag == _EXIF_ORIENTATION and kind == 3 and 1 <= value <= 8:
            return int(value)
    return 1
