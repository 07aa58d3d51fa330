"""Names that several packages share: the two classes in order, the domains, the architectures."""

from __future__ import annotations

from cspine.core.errors import DataError

# The index is the label: 1 is the positive class, as in the definition of every metric.
CLASS_NAMES: tuple[str, str] = ("normal", "fracture")
NORMAL, FRACTURE = 0, 1
POSITIVE_CLASS = CLASS_NAMES[FRACTURE]
# This is an answer, not a class: no image has it as a label.
UNCERTAIN = "uncertain"

# The kind of images that a model was trained on: synthetic ones, real scans with synthetic
# fractures painted in, or real ones. It is stored in the `.h5`, the card and every answer. Only
# older files have `unknown`.
SYNTHETIC, PAINTED, REAL = "synthetic", "painted", "real"
UNKNOWN_DOMAIN = "unknown"
DOMAINS = (SYNTHETIC, PAINTED, REAL)

# How a DICOM slice's Hounsfield units become the grey picture that a network gets: through one
# fixed window, or through each file's display window (models trained before the fixed window).
FIXED_WINDOW, HEADER_WINDOW = "fixed", "header"
DICOM_WINDOWS = (FIXED_WINDOW, HEADER_WINDOW)

# The networks, in the order in which they are trained; `model/networks/architectures.py` describes
# each of them.
ARCHITECTURE_NAMES = ("cnn", "resnet50v2", "inceptionv3", "xception")

MEDICAL_NOTICE = "Not a medical device. It assists and never replaces a physician."


def label_index(name: str) -> int:
    """Return the index of a class name, in any letter case.

    Raises:
        DataError: `name` is neither class.
    """
    try:
        return CLASS_NAMES.index(name.strip().lower())
    except ValueError:
        expected = " or ".join(f"`{known}`" for known in CLASS_NAMES)
        raise DataError(f"A class name must be {expected}. Received: {name!r}") from None
