"""Decoder of a DICOM CT slice to Hounsfield units and a windowed grey image.

Section numbers are those of the DICOM standard, PS3.3. Only the attributes listed in
`attributes.py` are read. The only patient data kept is a hash of PatientID, for grouping.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np

from cspine.core.errors import ImageError, UnsupportedImageError
from cspine.core.synthetic_mark import DICOM_YES, MANUFACTURER
from cspine.imaging.decoded_image import DecodedImage, HuArray, Limits
from cspine.imaging.dicom.attributes import Attributes
from cspine.imaging.dicom.elements import is_uid, read_elements
from cspine.imaging.dicom.orientation import find_refusal
from cspine.imaging.dicom.pixels import PixelFormat, StoredArray, read_stored_values
from cspine.imaging.dicom.window import LOWEST_IS_WHITE, to_grey

_CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"  # CT Image Storage; UIDs of enhanced CT start with it
_MAX_RESCALE = 1e6  # far beyond any scanner's, and far below where float32 would overflow
AIR_HU = -1000.0
_PSEUDONYM_SALT = b"cspine patient "
# Only these modalities are quoted in an error, because any other text could name a patient.
_MODALITIES = (
    "CR DX ECG IO KO MG MR NM OT PR PT PX REG RF RTDOSE RTIMAGE RTPLAN RTSTRUCT SC SEG SR US XA XC"
).split()


def decode_dicom(data: bytes, limits: Limits, window: str) -> DecodedImage:
    """Return one CT slice: `hu` float32 (H, W) and `grey` uint8 (H, W), windowed.

    Args:
        data: the bytes of the file.
        limits: largest number of pixels and of inflated bytes.
        window: the rule for `grey`, one of `labels.DICOM_WINDOWS`; see `window.py`.

    Raises:
        ImageTooLargeError: the file has more pixels or inflated bytes than `limits`.
        UnsupportedImageError: the file has another modality, several frames, colour or an
            unsupported transfer syntax.
        ImageError: the file has no pixel data, or is truncated, damaged or contradictory.
    """
    attributes = Attributes(read_elements(data, Attributes.TAGS, limits))
    warnings: list[str] = []
    _check_kind(attributes, warnings)
    form = _read_format(attributes, limits)
    stored = read_stored_values(attributes.elements, form)
    hu = _rescale(stored, attributes, warnings)
    grey = to_grey(hu, attributes, window, warnings)
    spacing_mm, z_mm = _read_spacing(attributes, warnings), _read_z(attributes, warnings)
    number = attributes.optional_whole("InstanceNumber", warnings)
    refusal = find_refusal(attributes, warnings)
    return DecodedImage(
        grey,
        "dicom",
        hu=hu,
        spacing_mm=spacing_mm,
        series_uid=_read_uid(attributes, "SeriesInstanceUID"),
        patient_id=_hash_patient(attributes),
        instance_number=number,
        z_mm=z_mm,
        warnings=tuple(warnings),
        instance_uid=_read_uid(attributes, "SOPInstanceUID"),
        is_synthetic=_has_mark(attributes),
        refusal=refusal,
    )


def read_study_uid(data: bytes, limits: Limits) -> str | None:
    """Return the StudyInstanceUID (0020,000D) of a DICOM file; None if missing or not a UID.

    Raises:
        ImageError: the file is not DICOM or is damaged.
    """
    return _read_uid(Attributes(read_elements(data, Attributes.TAGS, limits)), "StudyInstanceUID")


def _check_kind(attributes: Attributes, warnings: list[str]) -> None:
    """Check that the file is one CT slice (C.8.2.1, C.7.6.6); warn if it names no modality."""
    modality = attributes.text("Modality")
    sop_class = attributes.text("SOPClassUID") or attributes.text("MediaStorageSOPClassUID")
    if sop_class is not None and sop_class.startswith(_CT_CLASS + "."):
        # Enhanced CT keeps rescale and position in sequences, one item per frame.
        raise UnsupportedImageError("A DICOM file must be one CT slice. Received: enhanced CT")
    if modality is None and sop_class not in (None, _CT_CLASS):
        raise UnsupportedImageError("A DICOM file must be CT. Received: another SOP class")
    # The files of RSNA 2022 name no modality, so the SOP class suffices.
    if modality is None and sop_class is None:
        warnings.append("The DICOM file does not name its modality; it was read as CT.")
    elif modality not in (None, "CT"):
        named = f"`{modality}`" if modality in _MODALITIES else "another modality"
        raise UnsupportedImageError(f"A DICOM file must be CT. Received: {named}")
    if attributes.elements.pixels is None and attributes.elements.fragments is None:
        raise ImageError("A DICOM file must hold pixel data. Received: none")
    frames = attributes.whole("NumberOfFrames")
    if frames not in (None, 1):
        raise UnsupportedImageError(f"A DICOM file must hold one frame. Received: {frames}")


def _read_format(attributes: Attributes, limits: Limits) -> PixelFormat:
    """Return how the samples are stored (C.7.6.3), checked before memory is allocated."""
    photometric = attributes.text("PhotometricInterpretation")
    is_grey = photometric in (LOWEST_IS_WHITE, "MONOCHROME2")
    if not is_grey or attributes.unsigned("SamplesPerPixel") not in (None, 1):
        raise UnsupportedImageError(
            "A DICOM slice must be MONOCHROME1 or MONOCHROME2. Received: colour, or not stated"
        )
    rows, columns = attributes.unsigned("Rows") or 0, attributes.unsigned("Columns") or 0
    if not rows or not columns:
        raise ImageError(f"A DICOM slice must have pixels. Received: {columns} × {rows}")
    limits.check_pixels(rows, columns)
    allocated = attributes.unsigned("BitsAllocated")
    stored = attributes.unsigned("BitsStored")
    high_bit = attributes.unsigned("HighBit")
    if allocated not in (8, 16) or stored is None or not 1 <= stored <= allocated:
        raise UnsupportedImageError(
            "A DICOM slice must have 8 or 16 bits allocated, and must store at least 1 of them. "
            f"Received: {allocated} and {stored}"
        )
    if high_bit not in (None, stored - 1):
        raise UnsupportedImageError(
            f"`HighBit` must be `BitsStored` − 1, that is {stored - 1}. Received: {high_bit}"
        )
    representation = attributes.unsigned("PixelRepresentation")
    if representation not in (0, 1):
        raise ImageError(f"`PixelRepresentation` must be 0 or 1. Received: {representation}")
    return PixelFormat(
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=stored,
        is_signed=representation == 1,
    )


def _rescale(stored: StoredArray, attributes: Attributes, warnings: list[str]) -> HuArray:
    """Return HU = slope × stored + intercept (C.11.1.1.2)."""
    slopes = attributes.decimals("RescaleSlope")
    intercepts = attributes.decimals("RescaleIntercept")
    # A slope that is missing beside an intercept is 1, as in most CT files.
    if not intercepts:
        warnings.append("The DICOM file has no rescale; its values were taken as Hounsfield units.")
    slope, intercept = (slopes or (1.0,))[0], (intercepts or (0.0,))[0]
    if slope == 0 or max(abs(slope), abs(intercept)) > _MAX_RESCALE:
        raise ImageError(
            "`RescaleSlope` must not be 0, and it and `RescaleIntercept` must be between "
            f"-{_MAX_RESCALE:.0f} and {_MAX_RESCALE:.0f}. Received: another value"
        )
    # The conversion is exact, because float32 holds every integer of 16 bits.
    hu = stored.astype(np.float32)
    hu *= np.float32(slope)
    hu += np.float32(intercept)
    ends = _read_padding(attributes, stored.dtype.kind == "i")
    if ends is not None:
        hu[(stored >= min(ends)) & (stored <= max(ends))] = AIR_HU
    return hu


def _read_padding(attributes: Attributes, is_signed: bool) -> tuple[int, int] | None:
    """Return the first and last stored value that is padding, in any order; None without padding.

    Padding is PixelPaddingValue or, with PixelPaddingRangeLimit, the values from one to the other
    (C.7.5.1.1.2). Both have the sign of the pixels. Padding was not measured; it counts as air.
    """
    form = attributes.elements.order + ("h" if is_signed else "H")
    value, limit = (attributes.raw(f"PixelPadding{name}") for name in ("Value", "RangeLimit"))
    if len(value) != 2:
        return None
    last = limit if len(limit) == 2 else value
    return struct.unpack(form, value)[0], struct.unpack(form, last)[0]


def _read_spacing(attributes: Attributes, warnings: list[str]) -> float | None:
    """Return the distance between rows in mm, the first value of PixelSpacing (10.7.1.3)."""
    spacing = attributes.optional_decimals("PixelSpacing", warnings)
    return spacing[0] if spacing and spacing[0] > 0 else None


def _read_uid(attributes: Attributes, keyword: str) -> str | None:
    uid = attributes.text(keyword)
    return uid if uid is not None and is_uid(uid) else None


def _read_z(attributes: Attributes, warnings: list[str]) -> float | None:
    """Return the z of ImagePositionPatient in mm (C.7.6.2.1.1)."""
    position = attributes.optional_decimals("ImagePositionPatient", warnings)
    return position[2] if len(position) == 3 else None


def _has_mark(attributes: Attributes) -> bool:
    """Return whether the file has the mark of `core/synthetic_mark.py`."""
    return (
        attributes.text("SyntheticData") == DICOM_YES
        and attributes.text("Manufacturer") == MANUFACTURER
    )


def _hash_patient(attributes: Attributes) -> str | None:
    """Return a pseudonym of PatientID, so that slices can be grouped by patient.

    Never log the hash: the salt is public, so the id could be found by trying all ids.
    """
    patient_id = attributes.raw("PatientID").strip(b"\0 ")
    return hashlib.sha256(_PSEUDONYM_SALT + patient_id).hexdigest()[:32] if patient_id else None
