"""Parser of file names, which finds a file's slice, volume and patient. Its rules, in order:

1. Names of the published Kaggle set, such as `CSFDV1B10 (18)-sharpened1-rotated3.png`: an optional
   `CSFDV<n>` prefix, the series (`B10`), the slice number in parentheses (followed by `_<n>` if the
   same number was used twice) and then any chain of `-rotated<n>` and `-sharpened[<n>]`, which is
   the variant. The series counts as the volume and also as the patient, because the name says
   nothing else about the patient.
2. Numbers after words, such as `patient012_slice034.png`: one of the words `patient`, `case`,
   `study`, `subject`, `series` and `volume`, followed by letters or digits, then one of the words
   `slice`, `image` and `img` with a number, and then the same chain of variants as in rule 1. The
   first word and what follows it (`patient012`) serve as the volume and as the patient.
3. Any other name says nothing. The file is then its own slice, volume and patient, until the audit
   finds its near-duplicates by pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_VARIANT = r"(?P<variant>(?:-(?:rotated\d+|sharpened\d*))*)"
_PUBLISHED = re.compile(
    r"^(?:CSFDV\d+)?(?P<volume>[A-Za-z0-9_.-]+?) ?\((?P<slice>\d+)\)(?P<again>(?:_\d+)?)"
    + _VARIANT
    + "$"
)
_NAMED = re.compile(
    r"^(?P<volume>(?:patient|case|study|subject|series|volume)[ _-]?[A-Za-z0-9]+?)"
    r"[ _-](?:slice|image|img)[ _-]?(?P<slice>\d+)" + _VARIANT + "$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ParsedName:
    """What a file name says: the volume (also the patient), the slice, its number and the variant.

    `slice_number` orders the slices of a volume; `variant` is "" for an original.
    """

    volume_id: str
    slice_id: str
    slice_number: int
    variant: str


def parse_name(path: str) -> ParsedName | None:
    """Return what the file name in `path` says, or None if no rule matches it."""
    stem = PurePosixPath(path).stem
    # The stricter pattern is tried first.
    match = _PUBLISHED.match(stem) or _NAMED.match(stem)
    if match is None:
        return None
    parts = match.groupdict()
    # `(18)_1` is not a copy of `(18)`, but another slice that was given the same number.
    number = parts["slice"] + parts.get("again", "")
    return ParsedName(
        parts["volume"],
        f"{parts['volume']} ({number})",
        int(parts["slice"]),
        parts["variant"].lstrip("-"),
    )


def identify_file(path: str) -> ParsedName:
    """Return what a file's name says; if no rule matches, the file is its own slice and volume."""
    own = str(PurePosixPath(path).with_suffix(""))
    return parse_name(path) or ParsedName(own, own, 0, "")


def variant_rank(variant: str, path: str) -> tuple[int, str, str]:
    """Return a sort key that puts the original first, then the least processed variant."""
    # Dashes separate the processing steps of a variant.
    return (variant.count("-") + 1 if variant else 0, variant, path)
