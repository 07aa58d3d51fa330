"""Whether a DICOM header says that the picture is no axial slice, such as a localiser.

Section numbers are those of the DICOM standard, PS3.3. Knows nothing of pixels.
"""

from __future__ import annotations

import math

import numpy as np

from cspine.core.errors import ImageError
from cspine.imaging.dicom.attributes import Attributes

# From the patient's long axis to the slice normal. A gantry tilts by 30° at most; coronal and
# sagittal reformats lie at 90°.
MAX_TILT_DEG = 45.0
LOCALISER = "The DICOM header says that it is a localiser (ImageType LOCALIZER)."
NOT_AXIAL = (
    "The DICOM header says that it is not axial: the slice normal lies {:.0f}° from the patient's "
    "long axis (ImageOrientationPatient)."
)


def find_refusal(attributes: Attributes) -> str | None:
    """Return in a sentence why the header says that this is no axial slice, or None.

    Localisers are told by ImageType (C.8.2.1.1.1), orientation by ImageOrientationPatient
    (C.7.6.2.1.1), whose z axis runs along the patient whatever their position in the scanner.
    """
    if "LOCALIZER" in (attributes.text("ImageType") or "").upper().split("\\"):
        return LOCALISER
    tilt = _tilt_deg(attributes)
    return NOT_AXIAL.format(tilt) if tilt is not None and tilt > MAX_TILT_DEG else None


def _tilt_deg(attributes: Attributes) -> float | None:
    """Return the angle between the slice normal and the z axis, 0..90; None where not known."""
    try:
        cosines = attributes.decimals("ImageOrientationPatient")
    except ImageError:
        # No pixel depends on it.
        return None
    if len(cosines) != 6:
        return None
    normal = np.cross(cosines[:3], cosines[3:])
    length = float(np.linalg.norm(normal))
    if not math.isfinite(length) or length < 1e-6:
        return None
    return math.degrees(math.acos(min(abs(float(normal[2])) / length, 1.0)))
