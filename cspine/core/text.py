"""Counts with their nouns, as in "6 slices of 1 patient"."""

from __future__ import annotations


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1: "0 slices"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_slices(slices: int, patients: int) -> str:
    """Return the sample size behind a figure, such as "6 slices of 1 patient"."""
    return f"{count_noun(slices, 'slice')} of {count_noun(patients, 'patient')}"
