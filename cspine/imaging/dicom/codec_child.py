"""Child process that decodes compressed DICOM frames with GDCM; started by `codec_pool.py`.

GDCM ends its process (`std::terminate`) on some damaged JPEG streams, so it never runs in the
server's process. The child reads requests from standard input and answers on standard output until
the input ends. It imports nothing from cspine, so that it starts fast and holds no secrets.
"""

from __future__ import annotations

import struct
import sys
from typing import BinaryIO

try:
    import resource
except ImportError:  # Windows has no `resource`; the parent's time limit still applies
    resource = None  # type: ignore[assignment]

# A request has the stream's length in bytes, rows, columns, bits allocated, bits stored, whether
# the samples are signed, and the transfer syntax UID padded with NUL. The stream follows.
# An answer has the frame's length in bytes. The frame follows.
REQUEST, ANSWER = struct.Struct("<IHHBBB64s"), struct.Struct("<I")
MAX_MEMORY_BYTES = 2 * 1024**3  # address space; 40 million pixels of JPEG 2000 take about half


def decode_frame(request: tuple[int, ...], syntax: str, stream: bytes) -> bytes:
    """Return the little-endian samples of one monochrome frame; b"" if GDCM fails."""
    import gdcm  # here, so that the parent can import the formats above without it

    _, rows, columns, allocated, stored, is_signed = request
    # All fragments are joined to one, because a single frame may be split at any byte.
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(stream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    monochrome = gdcm.PhotometricInterpretation.MONOCHROME2
    # MONOCHROME2 is set even for MONOCHROME1, whose grey levels are inverted after windowing.
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(monochrome))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(1, allocated, stored, stored - 1, is_signed))
    frame: str | None = image.GetBuffer()  # GDCM hands bytes over as text, and None on failure
    return b"" if frame is None else frame.encode("utf-8", "surrogateescape")


def answer_requests(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer every request in `source` until it ends."""
    while len(head := source.read(REQUEST.size)) == REQUEST.size:
        *request, syntax = REQUEST.unpack(head)
        stream = source.read(request[0])
        try:
            frame = decode_frame(tuple(request), syntax.rstrip(b"\0").decode(), stream)
        except Exception:  # the parent treats every failure alike, as no frame
            frame = b""
        sink.write(ANSWER.pack(len(frame)) + frame)
        sink.flush()


def limit_resources() -> None:
    """Limit the memory of this process, and turn off core files for its crashes."""
    if resource is None:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    limit_resources()
    answer_requests(sys.stdin.buffer, sys.stdout.buffer)
