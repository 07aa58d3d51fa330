"""Parser of file names, which finds a file's slice, volume and patient. Its rules, in order:

1. Names of the published Kaggle set, such as `CSFDV1B10 (18)-sharpened1-rotated3.png`: the prefix
   `CSFDV<n>`, the series (`B10`), the slice number in parentheses (followed by `_<n>` if the same
   number was used twice) and then any chain of `-rotated<n>` and `-sharpened[<n>]`, which is the
   variant. The prefix may be missing in the published folders, and only there, because many
   programs name files `image (1).png`. The series counts as the volume and also as the patient,
   because the name says nothing else about the patient.
2. Numbers after words, such as `patient012_slice034.png`: one of the words `patient`, `case`,
   `study`, `subject`, `series` and `volume`, followed by letters or digits, then one of the words
   `slice`, `image` and `img` with a number. The first word and what follows it (`patient012`) serve
   as the volume and as the patient. The slice is the file, since names repeat.
3. Any other name says nothing. The file is then its own slice, volume and patient, until the audit
   finds its near-duplicates by pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_VARIANT = r"(?P<variant>(?:-(?:rotated\d+|sharpened\d*))*)"
_PREFIX = re.compile(r"^CSFDV\d+")
_PUBLISHED = re.compile(
    r"^(?P<volume>[A-Za-z0-9_.-]+?) ?\((?P<slice>\d+)\)(?P<again>(?:_\d+)?)" + _VARIANT + "$"
)
_NAMED = re.compile(
    r"^(?P<volume>(?:patient|case|study|subject|series|volume)[ _-]?[A-Za-z0-9]+?)"
    r"[ _-](?:slice|image|img)[ _-]?(?P<slice>\d+)$",
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


def parse_published(path: str, needs_prefix: bool = True) -> ParsedName | None:
    """Return what a name of the published set says, or None if it is no such name.

    Args:
        path: the path; only its last part counts.
        needs_prefix: whether the name must begin with `CSFDV<n>`; false in the published folders.
    """
    stem = PurePosixPath(path).stem
    prefix = _PREFIX.match(stem)
    if prefix is None and needs_prefix:
        return None
    match = _PUBLISHED.match(stem[prefix.end() :] if prefix else stem)
    if match is None:
        return None
    # `(18)_1` is not a copy of `(18)`, but another slice that was given the same number.
    volume, number = match["volume"], match["slice"] + match["again"]
    variant = match["variant"].lstrip("-")
    return ParsedName(volume, f"{volume} ({number})", int(match["slice"]), variant)


def identify_file(path: str, is_published: bool = False) -> ParsedName:
    """Return what a file's name says; if no rule matches, the file is its own slice and volume.

    Args:
        path: the path in the data set.
        is_published: whether the set has the layout of the published one.
    """
    published = parse_published(path, needs_prefix=not is_published)
    if published is not None:
        return published
    own = str(PurePosixPath(path).with_suffix(""))
    match = _NAMED.match(PurePosixPath(path).stem)
    return ParsedName(match["volume"], own, int(match["slice"]), "") if match else own_name(own)


def find_slice_number(path: str) -> int | None:
    """Return the slice number that a name of either rule holds, in any folder, else None."""
    published = parse_published(path, needs_prefix=False)
    match = _NAMED.match(PurePosixPath(path).stem)
    if published is None and match is None:
        return None
    return published.slice_number if published else int(match["slice"])  # type: ignore[index]


def own_name(name: str) -> ParsedName:
    """Return the name of a file that is its own slice and volume."""
    return ParsedName(name, name, 0, "")


def variant_rank(variant: str, path: str) -> tuple[int, str, str]:
    """Return a sort key that puts the original first, then the least processed variant."""
    # Dashes separate the processing steps of a variant.
    return (variant.count("-") + 1 if variant else 0, variant, path)
