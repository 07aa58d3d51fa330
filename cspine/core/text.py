"""Numbers as words of a sentence, and the words of settings as numbers."""

from __future__ import annotations

import math

from cspine.core.errors import ConfigError

DURATION_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_OTHER_NAMES = {"sensitivity": "recall"}


def parse_duration(text: str) -> int:
    """Return the whole seconds of `90s`, `10m` or `2h` (a bare number is seconds).

    Raises:
        ConfigError: `text` is no positive duration.
    """
    # A bare number means seconds, as in `timeout`: the unit that needs no explaining.
    number, unit = (text[:-1], text[-1]) if text[-1:] in DURATION_UNITS_S else (text, "s")
    # `isdigit` and not `int`: signs, spaces and underscores would pass the latter.
    if not number.isdigit() or int(number) == 0:
        raise ConfigError(f"`time_limit` must be like 90s, 10m or 2h. Received: {text!r}")
    return int(number) * DURATION_UNITS_S[unit]


def parse_requirement(text: str) -> tuple[str, float]:
    """Return metric and bar of `auroc=0.9`; `sensitivity` is another name of `recall`.

    Raises:
        ConfigError: `text` is not METRIC=NUMBER.
    """
    metric, _, bar = text.partition("=")
    try:
        value = float(bar)
        # Nothing is at least nan: the bar could never be met.
        if not math.isfinite(value):
            raise ValueError
        name = metric.strip().lower()
        return _OTHER_NAMES.get(name, name), value
    except ValueError:
        raise ConfigError(f"`require` must be METRIC=NUMBER. Received: {text!r}") from None


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an `s` unless it is one: "1 slice", "0 slices"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_slices(slices: int, patients: int) -> str:
    """Return what a figure stands on, such as "6 slices of 1 patient"."""
    return f"{count_noun(slices, 'slice')} of {count_noun(patients, 'patient')}"
