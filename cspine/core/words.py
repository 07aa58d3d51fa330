"""How a number stands in a sentence."""

from __future__ import annotations


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an `s` unless it is one: "1 slice", "0 slices"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
