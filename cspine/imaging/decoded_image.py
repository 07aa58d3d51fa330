"""Input limits of the decoders, and the decoded slice that each decoder returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cspine.core.errors import ImageTooLargeError

GreyArray = npt.NDArray[np.uint8]
HuArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Limits:
    """The largest image that is decoded, checked on the header before any pixel is decoded.

    Fields:
        max_bytes: limit for the file and, for a deflated DICOM, for the inflated data set.
        max_pixels: limit for height × width.
    """

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 40_000_000

    def check_bytes(self, count: int, thing: str = "image") -> None:
        """Check the size of a file.

        Raises:
            ImageTooLargeError: `thing` has more than `max_bytes` bytes.
        """
        if count > self.max_bytes:
            raise ImageTooLargeError(
                f"`{thing}` must have at most {self.max_bytes} bytes. Received: {count} or more"
            )

    def check_pixels(self, height: int, width: int) -> None:
        """Check the size of an image.

        Raises:
            ImageTooLargeError: height × width is more than `max_pixels`.
        """
        if height * width > self.max_pixels:
            raise ImageTooLargeError(
                f"`image` must have at most {self.max_pixels} pixels. Received: {width} × {height}"
            )


@dataclass(frozen=True)
class DecodedImage:
    """Pixels of one slice, with the facts read from its file.

    Fields:
        grey: uint8 (H, W), 0–255. A DICOM slice is already windowed, by the rule that the caller
            chose; a PNG or JPEG is already turned upright by its EXIF orientation.
        kind: `png`, `jpeg`, `dicom` or `array`.
        is_colour: True if the colour channels differ visibly.
        hu: float32 (H, W) Hounsfield units; DICOM only.
        spacing_mm: distance between rows in mm, DICOM PixelSpacing; None if missing.
        series_uid: SeriesInstanceUID; None if missing or not a UID.
        patient_id: a pseudonym, the hash of PatientID, for grouping only. Never log it.
        instance_number: the slice's number in its series.
        z_mm: the slice's z position in mm.
        warnings: sentences for the user. They contain no value that could name a patient.
        instance_uid: SOPInstanceUID; None if missing or not a UID.
        is_synthetic: whether the file has the mark of `core/synthetic_mark.py`.
        refusal: a sentence saying why, by the DICOM header, this is not an axial slice; else None.
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
