"""Reasons for an answer without a class: each has a code for tables and a sentence for users."""

from __future__ import annotations

from dataclasses import dataclass

from cspine.core.labels import UNKNOWN_DOMAIN


@dataclass(frozen=True)
class Reason:
    """One reason for an answer without a class.

    Fields:
        code: a key of CODES.
        sentence: the text in the answer's warnings.
    """

    code: str
    sentence: str


# Code → its text in the counts by reason.
CODES = {
    "header": "not an axial slice by its DICOM header",
    "picture": "does not look like an axial CT slice of the neck",
    "synthetic_model": "a model of synthetic images names no class for other images",
    "no_vertebra": "no cervical vertebra found",
    "unlike_training": "unlike the images that the model learned from",
    "too_close": "too close to call",
}
NO_VERTEBRA = Reason(
    "no_vertebra",
    "No cervical vertebra was found in the image, so there is nothing to judge.",
)
UNLIKE_TRAINING = Reason(
    "unlike_training",
    "The image does not look like the images that the model learned from.",
)
TOO_CLOSE = Reason(
    "too_close",
    "The probability is too close to call at the model's confidence level.",
)
SYNTHETIC_MODEL = Reason(
    "synthetic_model",
    "This model learned from synthetic images alone, so it names no class for an image that is "
    "not known to be synthetic. Train a model on your own data: README.md#train-on-your-images.",
)
# Domain → the words for a model of that domain in a line of output.
MODELS = {
    "synthetic": "a model of synthetic images",
    "painted": "a model of synthetic fractures in real scans",
    "real": "a model of real images",
    "unknown": "a model whose training images are not recorded",
}
# Added to every answer while the setting is on.
OPENED = (
    "CSPINE_ANSWER_SYNTHETIC is on: this model learned from synthetic images alone and answers for "
    "any image. For experiments only."
)
UNRECORDED = (
    "The training images of this model are not recorded, so it is not known which images it may "
    "judge."
)


def refuse_image(header: str | None, picture: str | None) -> tuple[Reason, ...]:
    """Return at most one reason against an image; the header's goes before the picture's.

    Args:
        header: why the file's header refuses the image; None if it does not.
        picture: why the pixels refuse it; None if they do not.
    """
    for code, found in (("header", header), ("picture", picture)):
        if found is not None:
            return (Reason(code, f"The image is not an axial CT slice of the neck: {found}"),)
    return ()


def find_notes(note: object, domain: str, is_opened: bool) -> tuple[str, ...]:
    """Return the sentences that stand in every answer of a model.

    Args:
        note: the card's own note, if any.
        domain: the kind of the model's training images.
        is_opened: whether CSPINE_ANSWER_SYNTHETIC lets the model answer for any image.
    """
    found = [str(note)] if note else []
    found += [OPENED] if is_opened else []
    found += [UNRECORDED] if domain == UNKNOWN_DOMAIN else []
    return tuple(found)
