"""Attributes of a DICOM CT slice by keyword, as text and numbers (value forms: PS3.5 section 6.2).

If an attribute cannot be read, the error gives its keyword and not its value, because any field of
a client's file may hold a patient's name.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import ClassVar

from cspine.core.errors import ImageError
from cspine.imaging.dicom.elements import Elements

_TAGS = {
    "MediaStorageSOPClassUID": 0x00020002,
    "ImageType": 0x00080008,
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "SyntheticData": 0x0008001C,
    "Modality": 0x00080060,
    "Manufacturer": 0x00080070,
    "PatientID": 0x00100020,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "InstanceNumber": 0x00200013,
    "ImagePositionPatient": 0x00200032,
    "ImageOrientationPatient": 0x00200037,
    "SamplesPerPixel": 0x00280002,
    "PhotometricInterpretation": 0x00280004,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "PixelSpacing": 0x00280030,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "HighBit": 0x00280102,
    "PixelRepresentation": 0x00280103,
    "PixelPaddingValue": 0x00280120,
    "PixelPaddingRangeLimit": 0x00280121,
    "WindowCenter": 0x00281050,
    "WindowWidth": 0x00281051,
    "RescaleIntercept": 0x00281052,
    "RescaleSlope": 0x00281053,
    "VOILUTFunction": 0x00281056,
}


UNREADABLE = "The DICOM attribute {} cannot be read, so it counts as absent."


@dataclass(frozen=True)
class Attributes:
    """Typed access by keyword to the raw values in `elements`.

    An empty attribute is treated like an absent one.
    """

    elements: Elements
    TAGS: ClassVar[frozenset[int]] = frozenset(_TAGS.values())

    def raw(self, keyword: str) -> bytes:
        """Return the value's bytes as they are in the file; b"" if the attribute is absent."""
        return self.elements.values.get(_TAGS[keyword], b"")

    def text(self, keyword: str) -> str | None:
        """Return the value of a text attribute without padding, else None."""
        # Latin-1 decodes any bytes, and UI, CS, DS and IS are ASCII in every character set.
        return self.raw(keyword).decode("latin-1").strip("\0 ") or None

    def unsigned(self, keyword: str) -> int | None:
        """Return the value of a US attribute, 0–65535, else None.

        Raises:
            ImageError: the value does not have two bytes.
        """
        raw = self.elements.values.get(_TAGS[keyword])
        if not raw:
            return None
        if len(raw) != 2:
            raise ImageError(f"`{keyword}` must be one 16-bit number. Received: {len(raw)} bytes")
        return int(struct.unpack(self.elements.order + "H", raw)[0])

    def decimals(self, keyword: str) -> tuple[float, ...]:
        """Return all numbers of a DS attribute; () if the attribute is absent.

        Raises:
            ImageError: a value is not a finite number.
        """
        text = self.text(keyword)
        if text is None:
            return ()
        try:
            values = tuple(float(part) for part in text.split("\\"))
        except ValueError:
            values = (math.nan,)
        if not all(map(math.isfinite, values)):
            raise ImageError(f"`{keyword}` must be finite decimal numbers. Received: other text")
        return values

    def optional_decimals(self, keyword: str, warnings: list[str]) -> tuple[float, ...]:
        """Return all numbers of a DS attribute that no pixel depends on.

        If it cannot be read, it counts as absent, and `warnings` gets a sentence.
        """
        try:
            return self.decimals(keyword)
        except ImageError:
            warnings.append(UNREADABLE.format(keyword))
            return ()

    def optional_whole(self, keyword: str, warnings: list[str]) -> int | None:
        """Return the number of an IS attribute that no pixel depends on; see above."""
        try:
            return self.whole(keyword)
        except ImageError:
            warnings.append(UNREADABLE.format(keyword))
            return None

    def whole(self, keyword: str) -> int | None:
        """Return the number of an IS attribute, else None.

        Raises:
            ImageError: the value is not one integer of 32 bits.
        """
        values = self.decimals(keyword)
        if not values:
            return None
        if len(values) != 1 or not values[0].is_integer() or abs(values[0]) >= 2**31:
            raise ImageError(f"`{keyword}` must be one whole number. Received: another value")
        return int(values[0])
