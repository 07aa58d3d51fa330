"""Choice of a CT slice's window, and conversion of Hounsfield units to grey with that window.

The network's picture is made with one fixed window, so that the same Hounsfield units give the
same answer whatever display window the file names. `experiments/model/dicom_window.py` compares
windows. Models that learned from DICOM files before this rule keep the file's window.

Section numbers are those of the DICOM standard, PS3.3.
"""

from __future__ import annotations

import numpy as np

from cspine.core.labels import HEADER_WINDOW
from cspine.imaging.decoded_image import GreyArray, HuArray
from cspine.imaging.dicom.attributes import Attributes

# Centre and width in HU: the usual bone window of CT reading.
BONE_WINDOW = (400.0, 1800.0)
HEADER_USED = (
    "The model learned from pictures made with each DICOM file's display window, so this file's "
    "display window was used."
)
LOWEST_IS_WHITE = "MONOCHROME1"  # C.7.6.3.1.2
_NARROWEST_HU, _WIDEST_HU = 1e-3, 1e6  # no display needs a wider range, and float32 holds it


def to_grey(hu: HuArray, attributes: Attributes, window: str, warnings: list[str]) -> GreyArray:
    """Return the picture that finder, checks and network get, uint8 (H, W).

    Args:
        hu: float32 (H, W).
        attributes: the file's attributes. Those of its display window are read for either rule, so
            that a fault in them is told.
        window: `fixed` for `BONE_WINDOW`, or `header` for the file's display window.
        warnings: gets a sentence for each fault.
    """
    shown = read_window(attributes, warnings)
    if window != HEADER_WINDOW:
        return apply_window(hu, *BONE_WINDOW)
    warnings.append(HEADER_USED)
    grey = apply_window(hu, *(shown or BONE_WINDOW))
    # Only grey is inverted, because MONOCHROME1 does not change the meaning of Hounsfield units.
    is_inverted = attributes.text("PhotometricInterpretation") == LOWEST_IS_WHITE
    return np.uint8(255) - grey if is_inverted else grey


def read_window(attributes: Attributes, warnings: list[str]) -> tuple[float, float, str] | None:
    """Return (centre, width, function) of the file's first window; None if it has no valid one.

    Several windows are alternative views of one image (C.11.2.1.2.1). Only the first is considered.
    """
    centres = attributes.optional_decimals("WindowCenter", warnings)
    widths = attributes.optional_decimals("WindowWidth", warnings)
    function = attributes.text("VOILUTFunction") or "LINEAR"
    if not centres or not widths:
        return None
    # LINEAR uses width − 1, so its width is at least 1 (C.11.2.1.2.1); other widths are above 0.
    narrowest = 1.0 if function == "LINEAR" else _NARROWEST_HU
    in_range = abs(centres[0]) <= _WIDEST_HU and narrowest <= widths[0] <= _WIDEST_HU
    if function not in _FUNCTIONS or not in_range:
        warnings.append("The DICOM file's display window is not valid, so it counts as absent.")
        return None
    return centres[0], widths[0], function


def apply_window(hu: HuArray, centre: float, width: float, function: str = "LINEAR") -> GreyArray:
    """Return float32 `hu` (H, W) as uint8 (H, W), 0–255, by the formula of the VOI LUT function.

    The formulas are LINEAR (C.11.2.1.2.1), LINEAR_EXACT (C.11.2.1.3.2) and SIGMOID (C.11.2.1.3.1).
    The output is rounded to the nearest level. `width` is at least 1 for LINEAR, and above 0 for
    the other functions.
    """
    return _FUNCTIONS[function](hu, centre, width)


def _linear(hu: HuArray, centre: float, width: float) -> GreyArray:
    if width == 1:  # the formula's two outer cases meet in a step
        return np.where(hu > centre - 0.5, 255, 0).astype(np.uint8)
    # LINEAR equals LINEAR_EXACT with the centre lower by 0.5 and the width lower by 1.
    return _ramp(hu, centre - 0.5, width - 1)


def _ramp(hu: HuArray, centre: float, width: float) -> GreyArray:
    """Return the clipped straight line that is 0 at centre − width / 2 and 255 at + width / 2."""
    grey = hu - np.float32(centre)
    grey *= np.float32(255 / width)
    # The cast truncates; adding 0.5 makes it round.
    grey += np.float32(127.5 + 0.5)
    return np.clip(grey, 0, 255, out=grey).astype(np.uint8)


def _sigmoid(hu: HuArray, centre: float, width: float) -> GreyArray:
    # float32 holds e⁸⁰ but not e⁸⁹. At ±80 the grey is already fully white or black.
    exponent = np.clip((hu - np.float32(centre)) * np.float32(-4 / width), -80, 80)
    grey: GreyArray = (255 / (1 + np.exp(exponent)) + 0.5).astype(np.uint8)
    return grey


_FUNCTIONS = {"LINEAR": _linear, "LINEAR_EXACT": _ramp, "SIGMOID": _sigmoid}
