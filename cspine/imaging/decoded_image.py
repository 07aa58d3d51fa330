"""What decoding takes and gives: the limits, and one decoded slice.

Knows nothing of file formats; `decode.py` is the door, and every decoder returns `DecodedImage`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cspine.core.errors import ImageTooLargeError

GreyArray = npt.NDArray[np.uint8]
HuArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Limits:
    """What one image may cost. Checked from the header, before any pixel is decoded.

    `max_bytes` bounds the file and, for a deflated DICOM, the inflated data set; `max_pixels`
    bounds height × width.
    """

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 40_000_000

    def check_bytes(self, count: int, thing: str = "image") -> None:
        """Raise `ImageTooLargeError` where `thing` has more than `max_bytes` bytes."""
        if count > self.max_bytes:
            raise ImageTooLargeError(
                f"`{thing}` must have at most {self.max_bytes} bytes. Received: {count} or more"
            )

    def check_pixels(self, height: int, width: int) -> None:
        """Raise `ImageTooLargeError` where height × width is more than `max_pixels`."""
        if height * width > self.max_pixels:
            raise ImageTooLargeError(
                f"`image` must have at most {self.max_pixels} pixels. Received: {width} × {height}"
            )


@dataclass(frozen=True)
class DecodedImage:
    """One slice as pixels, and what its file says about it.

    Fields:
        grey: uint8 (H, W), 0–255; already windowed for DICOM, upright by EXIF for pictures.
        kind: `png`, `jpeg`, `dicom` or `array`.
        is_colour: True for a picture whose channels really differ.
        hu: float32 (H, W) Hounsfield units; DICOM only.
        spacing_mm: distance between rows, DICOM PixelSpacing; None where the file has none.
        series_uid: SeriesInstanceUID; None where missing or not a UID.
        patient_id: a pseudonym, the hash of PatientID, for grouping only. Never log it.
        instance_number, z_mm: the slice's place in its series.
        warnings: sentences for the user. They hold no value that could name a patient.
        instance_uid: SOPInstanceUID; None where missing or not a UID.
        is_synthetic: whether the file has the mark of `core/synthetic_mark.py`.
        refusal: why the DICOM header says that this is no axial slice, in a sentence, or None.
    """

    grey: GreyArray
    kind: str
    is_colour: bool = False
    hu: HuArray | None = None
    spacing_mm: float | None = None
    series_uid: str | None = None
    patient_id: str | None = None
    instance_number: int | None = None
    z_mm: float | None = None
    warnings: tuple[str, ...] = ()
    instance_uid: str | None = None
    is_synthetic: bool = False
    refusal: str | None = None
