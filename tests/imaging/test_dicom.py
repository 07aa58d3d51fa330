"""DICOM CT to Hounsfield units and grey: exact values, refusals in words, no patient data."""

import io
import logging
import math
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from cspine.core.errors import ImageError, ImageTooLargeError, UnsupportedImageError
from cspine.imaging.decode import decode_image
from cspine.imaging.decoded_image import Limits
from cspine.imaging.dicom.window import BONE_WINDOW, HEADER_USED, apply_window
from support.imaging_samples import change_syntax, compress, ct_bytes, make_ct, make_ramp, write_ct

RAMP = make_ramp().astype(np.uint16) * 8
HU = RAMP.astype(np.float32) - 1024


def decode_header(data):
    return decode_image(data, dicom_window="header")


def test_hu_place_and_pseudonym():
    decoded = decode_image(ct_bytes(RAMP))
    assert decoded.kind == "dicom" and decoded.hu.dtype == np.float32
    assert np.array_equal(decoded.hu, HU)
    assert (decoded.spacing_mm, decoded.z_mm, decoded.instance_number) == (0.4, -12.5, 7)
    assert decoded.series_uid == str(make_ct().SeriesInstanceUID)
    assert len(decoded.patient_id) == 32 and "planted" not in repr(decoded)
    assert decoded.patient_id == decode_image(ct_bytes(RAMP[::-1])).patient_id
    assert decoded.patient_id != decode_image(ct_bytes(RAMP, PatientID="other")).patient_id


WINDOWS = [
    {"WindowCenter": 400, "WindowWidth": 1800},
    {"WindowCenter": 40, "WindowWidth": 400},
    {"WindowCenter": [40, 400], "WindowWidth": [400, 1800]},
    {"WindowCenter": 40, "WindowWidth": 300, "VOILUTFunction": "SIGMOID"},
    {},
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_grey_depends_on_the_hounsfield_units_alone(window, photometric):
    assert BONE_WINDOW == (400.0, 1800.0)
    decoded = decode_image(ct_bytes(RAMP, PhotometricInterpretation=photometric, **window))
    assert np.array_equal(decoded.grey, apply_window(HU, 400, 1800))
    assert decoded.warnings == ()


def test_the_header_rule_says_so_and_defaults_to_the_bone_window():
    decoded = decode_header(ct_bytes(RAMP))
    assert np.array_equal(decoded.grey, apply_window(HU, 400, 1800))
    assert decoded.warnings == (HEADER_USED,)


def test_linear_window_is_the_standards():
    hu = np.array([[-61, -60, -10, 39, 40, 90, 138, 139, 140]], np.float32)
    below, above = 40 - 0.5 - 199 / 2, 40 - 0.5 + 199 / 2
    exact = np.clip(((hu - 39.5) / 199 + 0.5) * 255, 0, 255)
    assert (below, above) == (-60, 139)
    assert apply_window(hu, 40, 200).tolist() == np.floor(exact + 0.5).tolist()


def test_exact_and_sigmoid_windows_are_the_standards():
    hu = np.array([[-100, 0, 40, 90, 300]], np.float32)
    exact = np.clip((hu - 40) / 200 + 0.5, 0, 1) * 255
    assert np.array_equal(apply_window(hu, 40, 200, "LINEAR_EXACT"), np.floor(exact + 0.5))
    sigmoid = 255 / (1 + np.exp(-4 * (hu - 40) / 200))
    assert np.array_equal(apply_window(hu, 40, 200, "SIGMOID"), np.floor(sigmoid + 0.5))


def test_window_of_width_one_is_a_step():
    hu = np.array([[39, 39.5, 40, 41]], np.float32)
    assert apply_window(hu, 40, 1).tolist() == [[0, 0, 255, 255]]


def test_first_of_several_windows_is_taken():
    several = decode_header(ct_bytes(RAMP, WindowCenter=[40, 400], WindowWidth=[300, 1800]))
    assert np.array_equal(several.grey, apply_window(HU, 40, 300))


@pytest.mark.parametrize(
    "function, width",
    [
        ("LINEAR", 0.5),
        ("SIGMOID", 0),
        ("CUBIC", 300),
        ("LINEAR_EXACT", "1e-300"),
        ("LINEAR", "1e39"),
    ],
)
def test_invalid_window_is_warned_of(function, width):
    decoded = decode_header(
        ct_bytes(RAMP, WindowCenter=40, WindowWidth=width, VOILUTFunction=function)
    )
    assert "display window is not valid" in decoded.warnings[0]
    assert np.array_equal(decoded.grey, apply_window(HU, *BONE_WINDOW))


def test_monochrome1_is_inverted_by_the_header_rule():
    white_air = decode_header(ct_bytes(RAMP, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(white_air.grey, 255 - decode_header(ct_bytes(RAMP)).grey)
    assert np.array_equal(white_air.hu, HU)


def test_signed_values_and_slope():
    signed = RAMP.astype(np.int16) - 1000
    decoded = decode_image(
        ct_bytes(signed, PixelRepresentation=1, RescaleSlope="2.5", RescaleIntercept="-10")
    )
    assert np.array_equal(decoded.hu, signed * 2.5 - 10)


@pytest.mark.parametrize("bits", [12, 13, 14, 15, 16])
@pytest.mark.parametrize("is_signed", [False, True])
def test_spare_bits_are_ignored(bits, is_signed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    values = np.linspace(low, high, 12).round().astype(np.int32).reshape(3, 4)
    dirty = (values & (2**bits - 1) | 0xFFFF << bits & 0xFFFF).astype(np.uint16)
    decoded = decode_image(
        ct_bytes(dirty, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(is_signed))
    )
    assert np.array_equal(decoded.hu, values - 1024)


def test_eight_bits():
    data = make_ct(BitsAllocated=8, BitsStored=8, HighBit=7)
    data.PixelData = make_ramp().tobytes()
    assert np.array_equal(decode_image(write_ct(data)).hu, make_ramp() - 1024.0)


def test_missing_modality_and_rescale_are_warned_of():
    absent = dict.fromkeys(("Modality", "SOPClassUID", "RescaleSlope", "RescaleIntercept"))
    decoded = decode_image(write_ct(make_ct(RAMP, **absent), preamble=False))
    assert "modality" in decoded.warnings[0] and "rescale" in decoded.warnings[1]
    assert np.array_equal(decoded.hu, RAMP)


def test_the_sop_class_of_the_data_set_or_of_its_meta_group_is_a_modality():
    assert decode_image(ct_bytes(RAMP, Modality=None)).warnings == ()
    data = make_ct(RAMP, Modality=None, SOPClassUID=None)
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    assert decode_image(write_ct(data)).warnings == ()
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"  # MR
    with pytest.raises(UnsupportedImageError, match="another SOP class"):
        decode_image(write_ct(data))


AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]
TILTED = [1, 0, 0, 0, math.cos(math.radians(44)), math.sin(math.radians(44))]
HUGE = [1e300, 1e300, 0, 1e300, -1e300, 0]
SMALL = [0, 1e-4, 0, 0, 0, -1e-4]
STEEP = [1, 0, 0, 0, math.cos(math.radians(46)), math.sin(math.radians(46))]


@pytest.mark.parametrize(
    "cosines", [AXIAL, TILTED, [-1, 0, 0, 0, -1, 0], [0] * 6, [1, 0], HUGE, None]
)
def test_an_axial_or_unknown_orientation_is_not_refused(cosines):
    assert decode_image(ct_bytes(RAMP, ImageOrientationPatient=cosines)).refusal is None


@pytest.mark.parametrize(
    ("cosines", "degrees"), [(CORONAL, 90), (SAGITTAL, 90), (SMALL, 90), (STEEP, 46)]
)
def test_an_orientation_that_is_not_axial_is_told(cosines, degrees):
    assert decode_image(ct_bytes(RAMP, ImageOrientationPatient=cosines)).refusal == (
        "The DICOM header says that the image is not axial: the slice normal is at "
        f"{degrees}° to the patient's long axis (ImageOrientationPatient)."
    )


def test_an_orientation_that_cannot_be_read_is_absent():
    data = ct_bytes(RAMP, ImageOrientationPatient=AXIAL)
    damaged = data.replace(b"1.0\\0.0\\0.0", b"1.0\\x.0\\0.0")
    assert damaged != data
    assert decode_image(damaged).refusal is None


def test_a_localiser_is_told():
    image_type = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    assert decode_image(ct_bytes(RAMP, ImageType=image_type)).refusal == (
        "The DICOM header says that the image is a localiser (ImageType LOCALIZER)."
    )
    assert decode_image(ct_bytes(RAMP, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])).refusal is None
    padded = ct_bytes(RAMP, ImageType=["DERIVED", "SECONDARY", "LOCALIZER ", "CT_SOM5 TOP"])
    assert "localiser" in decode_image(padded).refusal


@pytest.mark.parametrize("uid", ["1.2.3", "no uid", None])
def test_the_instance_is_told_where_it_is_a_uid(uid):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of the uid that is none
        data = write_ct(make_ct(RAMP, SOPInstanceUID=uid), preamble=False)
    decoded = decode_image(data)
    assert decoded.instance_uid == (uid if uid == "1.2.3" else None)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_native_syntaxes(syntax):
    data = make_ct(RAMP)
    data.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(decode_image(write_ct(data)).hu, HU)


def test_big_endian():
    data = make_ct(RAMP.byteswap())
    data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    assert np.array_equal(decode_image(write_ct(data)).hu, HU)


def test_no_preamble_and_no_meta():
    data = make_ct(RAMP)
    del data.file_meta
    for implicit in (True, False):
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, data, implicit_vr=implicit, little_endian=True)
        assert np.array_equal(decode_image(buffer.getvalue()).hu, HU)


LOSSLESS = [
    "JPEGLosslessProcess14",
    "JPEGLosslessProcess14_1",
    "JPEGLSLossless",
    "JPEG2000Lossless",
    "RLELossless",
]


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("bits", [12, 16])
def test_lossless_compression_is_exact(tmp_path, name, bits):
    stored = RAMP if bits == 12 else RAMP * 32
    assert np.array_equal(decode_image(compress(tmp_path, name, stored, bits)).hu, stored - 1024.0)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("bits", [12, 16])
def test_lossless_compression_of_signed_values_is_exact(tmp_path, name, bits):
    stored = RAMP.astype(np.int16) - 1020 if bits == 12 else RAMP.astype(np.int16) * 16 - 16000
    data = compress(tmp_path, name, stored, bits, PixelRepresentation=1)
    assert np.array_equal(decode_image(data).hu, stored - 1024.0)


def test_lossy_jpeg_is_close(tmp_path):
    smooth = np.tile(np.arange(32, dtype=np.uint16) * 7, (24, 1))
    data = make_ct(BitsAllocated=8, BitsStored=8, HighBit=7)
    data.PixelData = smooth.astype(np.uint8).tobytes()
    (tmp_path / "eight.dcm").write_bytes(write_ct(data))
    decoded = decode_image(change_syntax(tmp_path / "eight.dcm", "JPEGBaselineProcess1"))
    assert np.abs(decoded.hu + 1024 - smooth).max() <= 3


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"Modality": "MR"}, "must be CT. Received: `MR`"),
        ({"Modality": "PLANTED"}, "must be CT. Received: another modality"),
        ({"Modality": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "another SOP class"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, "one CT slice. Received: enhanced CT"),
        ({"NumberOfFrames": 2}, "must hold one frame. Received: 2"),
        ({"SamplesPerPixel": 3}, "MONOCHROME1 or MONOCHROME2"),
        ({"PhotometricInterpretation": None}, "MONOCHROME1 or MONOCHROME2"),
        ({"BitsAllocated": 32}, "8 or 16 bits allocated"),
        ({"BitsStored": 17}, "8 or 16 bits allocated"),
        ({"HighBit": 15}, "`HighBit` must be `BitsStored` − 1, that is 11. Received: 15"),
    ],
)
def test_what_is_not_read_is_said(changes, words):
    with pytest.raises(UnsupportedImageError, match=words):
        decode_image(ct_bytes(RAMP, **changes))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"Rows": 0}, "must have pixels. Received: 32 × 0"),
        ({"Rows": 25}, "must have 1600 bytes. Received: 1536"),
        ({"RescaleSlope": 0}, "`RescaleSlope` must not be 0"),
        ({"RescaleIntercept": "1e30"}, "between -1000000 and 1000000"),
    ],
)
def test_what_is_contradictory_is_said(changes, words):
    with pytest.raises(ImageError, match=words):
        decode_image(ct_bytes(RAMP, **changes))


def test_no_pixel_data_is_said():
    data = make_ct()
    del data.PixelData
    with pytest.raises(ImageError, match="must hold pixel data"):
        decode_image(write_ct(data))


def test_limits_hold_before_decoding():
    with pytest.raises(ImageTooLargeError, match="Received: 32 × 24"):
        decode_image(ct_bytes(RAMP), Limits(max_pixels=767))
    data = make_ct(np.zeros((256, 256), np.uint16))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with pytest.raises(ImageTooLargeError, match="`inflated DICOM` must have at most 9999 bytes"):
        decode_image(write_ct(data), Limits(max_bytes=9999))


@pytest.mark.parametrize("keyword", ["RescaleIntercept", "RescaleSlope", "NumberOfFrames"])
def test_no_value_of_the_file_is_repeated(keyword, caplog, capfd, recwarn):
    caplog.set_level(logging.DEBUG)
    data = ct_bytes(RAMP, **{"WindowWidth": 2, keyword: "12345678"})
    planted = data.replace(b"12345678", b"Doe^Jo^X")
    with pytest.raises(ImageError) as caught:
        decode_image(planted)
    assert keyword in str(caught.value) and "Doe" not in str(caught.value)
    assert not caplog.records and not recwarn.list and capfd.readouterr() == ("", "")
