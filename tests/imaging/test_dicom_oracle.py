"""The reader against pydicom's, over every file that pydicom ships: its values, or a refusal."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels import apply_windowing

from cspine.core.errors import ImageError
from cspine.imaging.decode import decode_image
from cspine.imaging.decoded_image import Limits
from cspine.imaging.dicom.attributes import Attributes
from cspine.imaging.dicom.elements import read_elements
from cspine.imaging.dicom.pixels import PixelFormat, read_stored_values
from cspine.imaging.dicom.window import apply_window

ROOT = Path(pydicom.data.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*") if path.is_file())
KEYWORDS = ("Modality", "PhotometricInterpretation", "SeriesInstanceUID", "PatientID")


def read_with_pydicom(path: Path) -> pydicom.Dataset | None:
    """pydicom's reading where its pixels are ones that cspine also reads, else None."""
    try:
        data = pydicom.dcmread(path)
        grey = data.SamplesPerPixel == 1 and int(data.get("NumberOfFrames") or 1) == 1
        return data if grey and data.BitsAllocated in (8, 16) and len(data.pixel_array) else None
    except Exception:
        return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_answered(path):
    try:
        decoded = decode_image(path.read_bytes())
    except ImageError as error:
        assert "Received: " in str(error)
    else:
        assert decoded.kind == "dicom" and decoded.hu.shape == decoded.grey.shape


def test_values_are_those_of_pydicom():
    compared = 0
    for path in FILES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = read_with_pydicom(path)
        if theirs is None or path.name == "MR_truncated.dcm":
            continue
        ours = Attributes(read_elements(path.read_bytes(), Attributes.TAGS, Limits()))
        assert [ours.text(keyword) for keyword in KEYWORDS] == [
            theirs.get(keyword) or None for keyword in KEYWORDS
        ], path.name
        form = PixelFormat(
            theirs.Rows,
            theirs.Columns,
            theirs.BitsAllocated,
            theirs.BitsStored,
            theirs.PixelRepresentation == 1,
        )
        assert np.array_equal(read_stored_values(ours.elements, form), theirs.pixel_array)
        compared += 1
    assert compared > 50


@given(
    st.lists(st.integers(-1024, 3071), min_size=1, max_size=40),
    st.floats(-500, 1500, width=32),
    st.floats(1, 4000, width=32),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
@settings(max_examples=200, deadline=None)
def test_windows_are_those_of_pydicom(values, centre, width, function):
    data = pydicom.Dataset()
    data.PhotometricInterpretation, data.BitsStored, data.PixelRepresentation = "MONOCHROME2", 8, 0
    data.WindowCenter, data.WindowWidth, data.VOILUTFunction = centre, width, function
    hu = np.array([values], np.float32)
    with np.errstate(over="ignore"):  # pydicom's sigmoid overflows to the right value
        theirs = apply_windowing(hu, data)
    assert np.abs(apply_window(hu, centre, width, function) - theirs).max() <= 0.502


def test_twelve_bit_extended_jpeg_has_the_known_values():
    data = Path(pydicom.data.get_testdata_file("JPGExtended.dcm")).read_bytes()
    elements = read_elements(data, Attributes.TAGS, Limits())
    values = read_stored_values(elements, PixelFormat(1024, 256, 16, 12, False))
    assert (values[420, 140], values[230, 120]) == (244, 95)  # pydicom's own expectations
