"""DICOM files that break a rule of the standard, as scanners and archives write them."""

import struct

import numpy as np
import pytest
from pydicom.uid import JPEGLosslessSV1

from cspine.core.errors import ImageError
from cspine.imaging.decode import decode_image
from support.hostile_samples import CT, UNDEFINED, before_pixels, element
from support.imaging_samples import change_syntax, ct_bytes, make_ramp

ITEM, ITEM_END, SEQUENCE_END = (
    struct.pack("<HHI", 0xFFFE, number, 0) for number in (0xE000, 0xE00D, 0xE0DD)
)
OPEN_ITEM = ITEM[:4] + UNDEFINED
PLAIN = decode_image(CT)
STORED = make_ramp().astype(np.uint16) * 8


def assert_reads_as_plain(data):
    found = decode_image(data)
    np.testing.assert_array_equal(found.hu, PLAIN.hu)
    np.testing.assert_array_equal(found.grey, PLAIN.grey)
    return found


@pytest.mark.parametrize(
    ("keyword", "number", "group", "value"),
    [
        ("InstanceNumber", 0x13, 0x20, b"20240131123456789 "),
        ("ImagePositionPatient", 0x32, 0x20, b"-93,1\\-93,1\\-39,8 "),
        ("ImageOrientationPatient", 0x37, 0x20, b"1,0\\0 "),
        ("PixelSpacing", 0x30, 0x28, b"0.3638,0.3638 "),
        ("WindowCenter", 0x1050, 0x28, b"521,0 "),
        ("WindowWidth", 0x1051, 0x28, b"wide"),
    ],
)
def test_an_optional_attribute_that_cannot_be_read_is_absent(keyword, number, group, value):
    found = assert_reads_as_plain(before_pixels(element(group, number, b"DS", value), keyword))
    said = f"The DICOM attribute {keyword} cannot be read, so it counts as absent."
    assert said in found.warnings
    assert not any(value.decode() in sentence for sentence in found.warnings)


def test_explicit_elements_inside_an_unknown_sequence_are_skipped():
    inside = element(8, 0x16, b"UI", b"1.2\0")
    unknown = element(0x2001, 0x9000, b"UN", b"", UNDEFINED)
    assert_reads_as_plain(before_pixels(unknown + OPEN_ITEM + inside + ITEM_END + SEQUENCE_END))


def test_implicit_elements_inside_an_unknown_sequence_are_skipped():
    inside = struct.pack("<HHI", 8, 0x16, 4) + b"1.2\0"
    unknown = element(0x2001, 0x9000, b"UN", b"", UNDEFINED)
    assert_reads_as_plain(before_pixels(unknown + OPEN_ITEM + inside + ITEM_END + SEQUENCE_END))


@pytest.mark.parametrize("count", [1, 2])
def test_the_end_of_a_sequence_ends_its_open_items(count):
    rows = element(0x28, 0x10, b"US", struct.pack("<H", 7))
    icon = element(0x88, 0x200, b"SQ", b"", UNDEFINED)
    assert_reads_as_plain(before_pixels(icon + (OPEN_ITEM + rows) * count + SEQUENCE_END))


def test_a_second_meta_group_counts_for_nothing():
    start = CT.index(b"\x08\x00\x16\x00UI")
    stale = element(2, 0x10, b"UI", JPEGLosslessSV1.encode())
    assert_reads_as_plain(CT[:start] + stale + CT[start:])


def test_the_first_of_repeated_elements_counts():
    assert_reads_as_plain(before_pixels(element(0x28, 0x10, b"US", struct.pack("<H", 7))))


def test_an_unlisted_vr_has_a_length_of_four_bytes():
    future = struct.pack("<HH2sHI", 0x0029, 0x1010, b"ZZ", 0, 6) + b"\1\2\3\4\5\6"
    assert_reads_as_plain(before_pixels(future))


def test_compressed_pixels_may_end_with_the_file(tmp_path):
    source = tmp_path / "plain.dcm"
    source.write_bytes(CT)
    lossless = change_syntax(source, "JPEGLosslessProcess14_1")
    assert lossless.endswith(SEQUENCE_END)
    assert_reads_as_plain(lossless[:-8])
    with pytest.raises(ImageError, match="cut short or damaged"):
        decode_image(lossless[:-10])


def test_a_delimiter_outside_of_a_sequence_is_named():
    for delimiter in (ITEM_END, SEQUENCE_END):
        with pytest.raises(ImageError, match="one with none open"):
            decode_image(before_pixels(delimiter))


def test_a_missing_slope_beside_an_intercept_is_one():
    found = decode_image(ct_bytes(STORED, RescaleSlope=None))
    np.testing.assert_array_equal(found.hu, STORED - 1024.0)
    assert not any("rescale" in sentence for sentence in found.warnings)


@pytest.mark.parametrize(("limit", "last"), [(None, 80), (160, 160), (16, 16)])
def test_padding_is_air(limit, last):
    found = decode_image(ct_bytes(STORED, PixelPaddingValue=80, PixelPaddingRangeLimit=limit))
    padded = np.isin(STORED, range(min(80, last), max(80, last) + 1))
    assert padded.any()
    np.testing.assert_array_equal(found.hu, np.where(padded, -1000.0, STORED - 1024.0))


def test_padding_of_signed_pixels_is_signed():
    stored = STORED.astype(np.int16) - 1024
    stored[:4] = -2000
    found = decode_image(
        ct_bytes(
            stored,
            PixelRepresentation=1,
            BitsStored=16,
            HighBit=15,
            RescaleIntercept=0,
            PixelPaddingValue=-2000,
        )
    )
    assert (found.hu[:4] == -1000.0).all()
    np.testing.assert_array_equal(found.hu[4:], stored[4:])
