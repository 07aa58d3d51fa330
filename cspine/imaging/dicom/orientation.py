"""Check of the DICOM header that an image is an axial slice and not, for example, a localiser.

Section numbers are those of the DICOM standard, PS3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cspine.imaging.dicom.attributes import Attributes

# Largest angle between the patient's long axis and the slice normal. A gantry tilts by at most 30°;
# coronal and sagittal reformats are at 90°.
MAX_TILT_DEG = 45.0
LOCALISER = "The DICOM header says that the image is a localiser (ImageType LOCALIZER)."
NOT_AXIAL = (
    "The DICOM header says that the image is not axial: the slice normal is at {:.0f}° to the "
    "patient's long axis (ImageOrientationPatient)."
)


def find_refusal(attributes: Attributes, warnings: list[str]) -> str | None:
    """Return a sentence saying why, by the header, this is not an axial slice; else None.

    ImageType identifies a localiser (C.8.2.1.1.1). ImageOrientationPatient (C.7.6.2.1.1) gives the
    orientation; its z axis runs along the patient in any position in the scanner. An orientation
    that cannot be read is treated as unknown, with a warning.
    """
    # Spaces around a code string are not significant (PS3.5 6.2).
    kinds = (attributes.text("ImageType") or "").upper().split("\\")
    if "LOCALIZER" in (kind.strip() for kind in kinds):
        return LOCALISER
    tilt = _tilt_deg(attributes.optional_decimals("ImageOrientationPatient", warnings))
    return NOT_AXIAL.format(tilt) if tilt is not None and tilt > MAX_TILT_DEG else None


def _tilt_deg(cosines: Sequence[float]) -> float | None:
    """Return the angle in degrees between the slice normal and the z axis, 0..90; None if unknown.

    `cosines` are the six values of ImageOrientationPatient.
    """
    if len(cosines) != 6:
        return None
    row, column = _normalise(cosines[:3]), _normalise(cosines[3:])
    if row is None or column is None:
        return None
    normal = _normalise(np.cross(row, column).tolist())
    return None if normal is None else math.degrees(math.acos(min(abs(normal[2]), 1.0)))


def _normalise(vector: Sequence[float]) -> list[float] | None:
    """Return the vector scaled to length 1; None if it has no direction."""
    # `hypot` avoids the overflow and underflow of squares.
    length = math.hypot(*vector)
    if not 1e-9 < length < math.inf:
        return None
    return [value / length for value in vector]
