"""Counts with their nouns, as in "6 slices of 1 patient", and names as text that can be printed."""

from __future__ import annotations

from pathlib import Path


def escape_name(path: Path | str) -> str:
    r"""Return a file's name as text; bytes that are not UTF-8 become escapes such as `\udcfc`.

    Python represents such bytes by lone surrogates, which no file or terminal can hold.
    """
    return str(path).encode("utf-8", "backslashreplace").decode()


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1: "0 slices"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_slices(slices: int, patients: int) -> str:
    """Return the sample size behind a figure, such as "6 slices of 1 patient"."""
    return f"{count_noun(slices, 'slice')} of {count_noun(patients, 'patient')}"
