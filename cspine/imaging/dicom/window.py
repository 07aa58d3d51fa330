"""Window of a CT slice: its choice, and Hounsfield units through it to grey.

Section numbers are those of the DICOM standard, PS3.3.
"""

from __future__ import annotations

import numpy as np

from cspine.imaging.decoded_image import GreyArray, HuArray
from cspine.imaging.dicom.attributes import Attributes

# Centre and width in HU, where the file has no window: the usual bone window of CT reading.
BONE_WINDOW = (400.0, 1800.0)
_NARROWEST_HU, _WIDEST_HU = 1e-3, 1e6  # no display needs more, and float32 holds these


def choose_window(attributes: Attributes, warnings: list[str]) -> tuple[float, float, str]:
    """Return (centre, width, function) of the file's first window, else of `BONE_WINDOW`.

    Several values are alternative views of one image (C.11.2.1.2.1); the first is taken.
    """
    centres, widths = attributes.decimals("WindowCenter"), attributes.decimals("WindowWidth")
    function = attributes.text("VOILUTFunction") or "LINEAR"
    if not centres or not widths:
        return *BONE_WINDOW, "LINEAR"
    # LINEAR divides by width − 1 and asks for 1 or more (C.11.2.1.2.1), the others for more than 0.
    narrowest = 1.0 if function == "LINEAR" else _NARROWEST_HU
    in_range = abs(centres[0]) <= _WIDEST_HU and narrowest <= widths[0] <= _WIDEST_HU
    if function not in _FUNCTIONS or not in_range:
        warnings.append("The DICOM file's window is not valid; the bone window was used.")
        return *BONE_WINDOW, "LINEAR"
    return centres[0], widths[0], function


def apply_window(hu: HuArray, centre: float, width: float, function: str = "LINEAR") -> GreyArray:
    """Return uint8 (H, W), 0–255, of float32 `hu`, by the formula of the VOI LUT function.

    LINEAR is C.11.2.1.2.1, LINEAR_EXACT C.11.2.1.3.2, SIGMOID C.11.2.1.3.1, each with the output
    range 0–255, rounded to the nearest level. `width` is at least 1 for LINEAR, above 0 else.
    """
    return _FUNCTIONS[function](hu, centre, width)


def _linear(hu: HuArray, centre: float, width: float) -> GreyArray:
    if width == 1:  # a step: the formula's two outer cases meet
        return np.where(hu > centre - 0.5, 255, 0).astype(np.uint8)
    # LINEAR is LINEAR_EXACT, half a unit lower and one narrower.
    return _ramp(hu, centre - 0.5, width - 1)


def _ramp(hu: HuArray, centre: float, width: float) -> GreyArray:
    """Return the clipped straight line that is 0 at centre − width / 2 and 255 at + width / 2."""
    grey = hu - np.float32(centre)
    grey *= np.float32(255 / width)
    # The half more makes a rounding of the cast, which cuts off.
    grey += np.float32(127.5 + 0.5)
    return np.clip(grey, 0, 255, out=grey).astype(np.uint8)


def _sigmoid(hu: HuArray, centre: float, width: float) -> GreyArray:
    # e⁸⁰ is within float32, e⁸⁹ is not; both are all white or all black long before.
    exponent = np.clip((hu - np.float32(centre)) * np.float32(-4 / width), -80, 80)
    grey: GreyArray = (255 / (1 + np.exp(exponent)) + 0.5).astype(np.uint8)
    return grey


_FUNCTIONS = {"LINEAR": _linear, "LINEAR_EXACT": _ramp, "SIGMOID": _sigmoid}
