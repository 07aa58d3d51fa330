"""Hostile pictures and DICOM files by name: bombs, truncations, lies about size, cycles."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom.data
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1

from .imaging_samples import ct_bytes, make_ct, make_picture, make_ramp, write_ct

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RAMP = make_ramp(64, 64)
NOISE = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
PNG = make_picture(Image.fromarray(NOISE))
JPEG = make_picture(Image.fromarray(NOISE), "JPEG")
PROGRESSIVE = make_picture(Image.fromarray(NOISE), "JPEG", progressive=True)
CT = ct_bytes(RAMP.astype(np.uint16) * 8)
CODECS = ("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm")
UNDEFINED = b"\xff\xff\xff\xff"


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", checksum)


def png(width=8, height=8, depth=8, colour=0, interlace=0, rows=None, extra=b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    rows = zlib.compress(bytes(9) * 8) if rows is None else rows
    return SIGNATURE + chunk(b"IHDR", header) + extra + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_with_size(width: int, height: int, source: bytes = JPEG) -> bytes:
    start = source.find(b"\xff\xc0")
    return source[: start + 5] + struct.pack(">HH", height, width) + source[start + 9 :]


def cyclic_exif() -> bytes:
    """An EXIF directory that is its own successor, before a JPEG that ends at once."""
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8)
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:200]


def shipped_as_ct(name: str) -> bytes:
    """One of pydicom's small MR files that says it is CT: valid streams of each codec."""
    data = Path(pydicom.data.get_testdata_file(name)).read_bytes()
    return data.replace(b"CS\x02\x00MR", b"CS\x02\x00CT")


def raster_files() -> dict[str, bytes]:
    files = {f"png cut at {part}/10": PNG[: len(PNG) * part // 10] for part in range(1, 10)}
    files |= {f"jpeg cut at {part}/10": JPEG[: len(JPEG) * part // 10] for part in range(1, 10)}
    sof, scan = JPEG.find(b"\xff\xc0"), PROGRESSIVE.rfind(b"\xff\xda")
    files |= {
        "png bomb": png(50_000, 50_000),
        "png bomb at the pixel limit": png(6000, 6000),
        "png of 2^31 columns": png(2**31, 2**31),
        "png without columns": png(width=0),
        "png without rows": png(height=0),
        "png of 3 bits": png(depth=3),
        "png of colour type 5": png(colour=5),
        "png of 16-bit palette": png(depth=16, colour=3),
        "png of unknown interlace and too few rows": png(interlace=9, rows=zlib.compress(b"")),
        "png with two headers": png(extra=png(50_000, 50_000)[8:33]),
        "png with a header of 12 bytes": SIGNATURE + chunk(b"IHDR", bytes(12)) + PNG[33:],
        "png without its header": SIGNATURE + PNG[33:],
        "png without pixels": SIGNATURE + PNG[8:33] + chunk(b"IEND", b""),
        "png of no zlib stream": png(rows=b"not zlib at all"),
        "png of damaged rows": PNG[:200] + bytes(50) + PNG[250:],
        "png of an unknown row filter": png(rows=zlib.compress(b"\x09" * 72)),
        "png with a chunk of 4 GB": PNG[:33] + UNDEFINED + PNG[37:],
        "png animated": png(extra=chunk(b"acTL", bytes(8))),
        "png signature alone": SIGNATURE,
        "jpeg bomb": jpeg_with_size(65_535, 65_535),
        "jpeg without columns": jpeg_with_size(0, 64),
        "jpeg without rows": jpeg_with_size(64, 0),
        "jpeg of more rows than data": jpeg_with_size(64, 60_000),
        "jpeg of 12 bits": JPEG[: sof + 4] + b"\x0c" + JPEG[sof + 5 :],
        "jpeg lossless": JPEG[: sof + 1] + b"\xc3" + JPEG[sof + 2 :],
        "jpeg arithmetic": JPEG[: sof + 1] + b"\xc9" + JPEG[sof + 2 :],
        "jpeg of two frames": JPEG[:sof] + JPEG[sof : sof + 13] + JPEG[sof:],
        "jpeg of 200,000 components": JPEG[: sof + 9] + b"\xff" + JPEG[sof + 10 :],
        "jpeg of 100,000 scans": PROGRESSIVE[:-2] + PROGRESSIVE[scan:-2] * 100_000,
        "jpeg of fill bytes": b"\xff\xd8" + b"\xff" * 1_000_000,
        "jpeg of a million comments": JPEG[:2] + b"\xff\xfe\0\2" * 1_000_000 + JPEG[2:],
        "jpeg of a million beginnings": JPEG[:2] * 1_000_000 + JPEG[2:],
        "png of 500,000 chunks": png(extra=chunk(b"tEXt", b"") * 500_000),
        "jpeg without tables": JPEG[:20] + JPEG[sof:],
        "jpeg segment of length 0": JPEG[:4] + b"\0\0" + JPEG[6:],
        "jpeg segment beyond the end": JPEG[:4] + b"\xff\xff" + JPEG[6:],
        "jpeg that ends before it begins": b"\xff\xd8\xff\xd9" + bytes(20),
        "jpeg cyclic exif": cyclic_exif(),
        "jpeg of noise": b"\xff\xd8\xff" + NOISE.tobytes(),
        "gzip bomb": zlib.compress(bytes(10_000_000), wbits=31),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }
    return files


def element(group: int, number: int, vr: bytes, value: bytes, length: bytes | None = None) -> bytes:
    long = vr in (b"OB", b"OW", b"SQ", b"UN")
    size = struct.pack("<I" if long else "<H", len(value)) if length is None else length
    return struct.pack("<HH", group, number) + vr + (b"\0\0" if long else b"") + size + value


def with_syntax(syntax: bytes, rest: bytes = b"") -> bytes:
    """A file of meta information that names `syntax`, followed by `rest`."""
    return bytes(128) + b"DICM" + element(2, 0x10, b"UI", syntax + b"\0" * (len(syntax) % 2)) + rest


def before_pixels(extra: bytes, without: str | None = None) -> bytes:
    """The CT slice with raw elements put before its pixel data, and one attribute left out."""
    whole = ct_bytes(RAMP.astype(np.uint16) * 8, **({without: None} if without else {}))
    position = whole.rfind(b"\xe0\x7f\x10\x00OW")
    return whole[:position] + extra + whole[position:]


def compressed(syntax: str, stream: bytes, **changes) -> bytes:
    data = make_ct(RAMP.astype(np.uint16), **changes)
    data.file_meta.TransferSyntaxUID = syntax
    padded = stream + b"\0" * (len(stream) % 2)
    item = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(padded))
    data.PixelData = item + padded + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    return write_ct(data)


def j2k_header(width: int, height: int, tile: int = 64, components: int = 1) -> bytes:
    size = struct.pack(">HHHIIIIIIIIH", 0xFF51, 41, 0, width, height, 0, 0, tile, tile, 0, 0, 1)
    return b"\xff\x4f" + size[:-2] + struct.pack(">HBBB", components, 15, 1, 1) + bytes(100)


def jpeg_lossless(width: int = 64, height: int = 64) -> bytes:
    """A lossless frame whose tables are noise: some of these end GDCM's process."""
    frame = struct.pack(">HHBHHBBBB", 0xFFC3, 11, 12, height, width, 1, 1, 0x11, 0)
    tables = b"\xff\xc4\x00\x20" + NOISE.tobytes()[:30]
    return b"\xff\xd8" + frame + tables + b"\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00" + bytes(99)


def deflated(content: bytes) -> bytes:
    return with_syntax(str(DeflatedExplicitVRLittleEndian).encode(), content)


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def dicom_files() -> dict[str, bytes]:
    files = {f"dicom cut at {part}/12": CT[: len(CT) * part // 12] for part in range(1, 12)}
    deep = element(8, 0x1140, b"SQ", b"", UNDEFINED) + b"\xfe\xff\x00\xe0" + UNDEFINED
    files |= {
        "dicom of 65535 by 65535": ct_bytes(RAMP, Rows=65_535, Columns=65_535),
        "dicom without rows": ct_bytes(RAMP, Rows=0),
        "dicom of more rows than pixels": ct_bytes(RAMP, Rows=6000, Columns=6000),
        "dicom of rows in 4 bytes": before_pixels(element(0x28, 0x10, b"UL", bytes(4)), "Rows"),
        "dicom of 12 bits allocated": ct_bytes(RAMP, BitsAllocated=12),
        "dicom of no bits": ct_bytes(RAMP, BitsAllocated=0),
        "dicom of no bits stored": ct_bytes(RAMP, BitsStored=0),
        "dicom of high bit 40": ct_bytes(RAMP, HighBit=40),
        "dicom of sign 7": ct_bytes(RAMP, PixelRepresentation=7),
        "dicom of no frames": ct_bytes(RAMP, NumberOfFrames=0),
        "dicom of minus one frame": ct_bytes(RAMP, NumberOfFrames=-1),
        "dicom of 2^31 frames": ct_bytes(RAMP, NumberOfFrames=2**31 - 1),
        "dicom of slope 0": ct_bytes(RAMP, RescaleSlope=0),
        "dicom of endless slope": before_pixels(
            element(0x28, 0x1053, b"DS", b"1e999 "), "RescaleSlope"
        ),
        "dicom of slope nan": before_pixels(element(0x28, 0x1053, b"DS", b"nan "), "RescaleSlope"),
        "dicom of a million windows": before_pixels(
            element(0x28, 0x1050, b"UN", b"1\\" * 1_000_000)
        ),
        "dicom of a modality in words": ct_bytes(RAMP, Modality="A PATIENT"),
        "dicom of a 4 GB element": before_pixels(element(0x28, 0x3010, b"UN", b"", b"\xfe" * 4)),
        "dicom of 10,000 sequences in one": before_pixels(deep * 10_000),
        "dicom of an open sequence": before_pixels(deep),
        "dicom of a delimiter alone": before_pixels(b"\xfe\xff\xdd\xe0" + bytes(4)),
        "dicom of 200,000 elements": before_pixels(element(0x28, 0x3011, b"LO", b"") * 200_000),
        "dicom without pixels": CT[: CT.rfind(b"\xe0\x7f\x10\x00OW")],
        "dicom prefix alone": bytes(128) + b"DICM",
        "dicom prefix before noise": bytes(128) + b"DICM" + NOISE.tobytes(),
        "dicom syntax in words": with_syntax(b"little endian", CT[300:]),
        "dicom syntax of a stranger": CT.replace(
            b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"
        ),
        "dicom syntax of MPEG2": compressed("1.2.840.10008.1.2.4.100", b"\0\0\1\xb3"),
        "deflate bomb": deflated(deflate(bytes(200_000_000))),
        "deflate cut": deflated(deflate(CT[300:])[:-40]),
        "deflate of noise": deflated(NOISE.tobytes()),
    }
    return files


def codec_files() -> dict[str, bytes]:
    rle = struct.pack("<16I", 2, 64, 4_000_000_000, *[0] * 13)
    return {
        "fragments in a native syntax": compressed("1.2.840.10008.1.2.1", JPEG),
        "native pixels in a JPEG syntax": CT.replace(
            b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x001.2.840.10008.1.2.4.70"
        ),
        "no fragment": compressed(JPEG2000Lossless, b"")[:-16] + b"\xfe\xff\xdd\xe0" + bytes(4),
        "fragment of undefined length": compressed(JPEG2000Lossless, b"")[:-12] + UNDEFINED,
        "j2k of other size": compressed(JPEG2000Lossless, j2k_header(60_000, 60_000)),
        "j2k of a million tiles": compressed(JPEG2000Lossless, j2k_header(64, 64, tile=0)),
        "j2k of small tiles": compressed(JPEG2000Lossless, j2k_header(64, 64, tile=1)),
        "j2k of 16384 components": compressed(
            JPEG2000Lossless, j2k_header(64, 64, components=16_384)
        ),
        "j2k of nothing": compressed(JPEG2000Lossless, j2k_header(64, 64)),
        "jpeg lossless of other size": compressed(JPEGLosslessSV1, jpeg_lossless(width=9000)),
        "jpeg lossless of noise": compressed(JPEGLosslessSV1, jpeg_lossless()),
        "jpeg baseline as lossless, cut": compressed(JPEGLosslessSV1, JPEG[:300]),
        "jpeg-ls of noise": compressed("1.2.840.10008.1.2.4.80", jpeg_lossless()),
        "rle of no header": compressed("1.2.840.10008.1.2.5", bytes(10)),
        "rle of no segments": compressed("1.2.840.10008.1.2.5", bytes(64)),
        "rle beyond the end": compressed("1.2.840.10008.1.2.5", rle),
        "rle of no-operations": compressed("1.2.840.10008.1.2.5", rle + b"\x80" * 1_000_000),
    }


def jpeg_cut_in_half() -> bytes:
    """A JPEG of noise whose second half is gone, with an end marker where it was cut."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    data = buffer.getvalue()
    return data[: len(data) // 2] + b"\xff\xd9"


def big_endian_eight_bits() -> bytes:
    data = make_ct(BitsAllocated=8, BitsStored=8, HighBit=7)
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


HOSTILE = (
    raster_files()
    | dicom_files()
    | codec_files()
    | {"big-endian 8 bits": big_endian_eight_bits(), "JPEG cut in half": jpeg_cut_in_half()}
)
