"""Slice, volume and patient of a file, read from its name alone. The rules, in order:

1. Published names, `CSFDV1B10 (18)-sharpened1-rotated3.png`: an optional `CSFDV<n>` prefix, the
   series (`B10`), the slice number in parentheses (with `_<n>` where one number was used twice)
   and then any chain of `-rotated<n>` and `-sharpened[<n>]`, which is the variant. The series is
   the volume and, as nothing finer is known, the patient.
2. Named numbers, `patient012_slice034.png` or `p12/series3/slice_07.png`'s file part: a word of
   `patient`, `case`, `study`, `subject`, `series` or `volume` with its number, then a word of
   `slice`, `image` or `img` with its number. The first part is volume and patient.
3. Any other name says nothing: the file is its own slice, volume and patient, until the audit
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
    """Groups of a file by its name.

    `slice_number` orders the slices of a volume; `variant` is "" for an original.
    """

    volume_id: str
    slice_id: str
    slice_number: int
    variant: str


def parse_name(path: str) -> ParsedName | None:
    """Return what the file name at the end of `path` says, or None if no rule reads it."""
    stem = PurePosixPath(path).stem
    # The stricter pattern first.
    match = _PUBLISHED.match(stem) or _NAMED.match(stem)
    if match is None:
        return None
    parts = match.groupdict()
    # `(18)_1` is another slice that was given a number twice, not a copy of `(18)`.
    number = parts["slice"] + parts.get("again", "")
    return ParsedName(
        parts["volume"],
        f"{parts['volume']} ({number})",
        int(parts["slice"]),
        parts["variant"].lstrip("-"),
    )


def identify_file(path: str) -> ParsedName:
    """Return what the name says; if no rule reads it, the file is its own slice and volume."""
    own = str(PurePosixPath(path).with_suffix(""))
    return parse_name(path) or ParsedName(own, own, 0, "")


def variant_rank(variant: str, path: str) -> tuple[int, str, str]:
    """Return the sort key that puts the original first, then the least derived variant."""
    # Each dash is one step of processing away from the original.
    return (variant.count("-") + 1 if variant else 0, variant, path)
