"""Which connection yields where places run out: one that only waits, and what it waits for.

Knows no socket: `listener.py` asks, and closes what is found here.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, TypeVar

# What yields, in this order, and after how many seconds without a byte: an honest client sends its
# header at once, its body without a pause, and reads its answer as it comes.
YIELDING = {"idle": 0.0, "header": 0.0, "body": 2.0, "answer": 2.0}
# A body this slow is late in any case.
DRIP_BYTES_S, DRIP_AFTER_S = 1024.0, 5.0


class Waiting(Protocol):
    """A connection, as far as the choice needs to know it."""

    @property
    def held_bytes(self) -> int:
        """Return the bytes of bodies that are on their way or being worked on."""

    def waits_for(self) -> str:
        """Return a word of `YIELDING`, or `work`."""

    def silent_s(self, now_s: float) -> float:
        """Return for how many seconds nothing came or went, nor was anything else waited for."""

    def waiting_s(self, now_s: float) -> tuple[str, float]:
        """Return what the connection waits for and since how many seconds."""


W = TypeVar("W", bound=Waiting)


def find_yielding(connections: Collection[W], now_s: float) -> W | None:
    """Return the connection that has been silent for longest, of the first kind that yields.

    Where none does, a body that only drips: a byte now and then holds no place.
    """
    for part in YIELDING:
        found = find_silent(connections, part, now_s)
        if found is not None:
            return found
    return _find_dripping(connections, now_s)


def find_silent(connections: Collection[W], part: str, now_s: float) -> W | None:
    """Return the connection that waits for this part and has been silent for longest, or None."""
    silent = [(one.silent_s(now_s), one) for one in connections if one.waits_for() == part]
    found = [pair for pair in silent if pair[0] >= YIELDING[part]]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _find_dripping(connections: Collection[W], now_s: float) -> W | None:
    waits = [(one, *one.waiting_s(now_s)) for one in connections]
    rates = [
        (one.held_bytes / waited_s, one)
        for one, part, waited_s in waits
        if part == "body" and waited_s > DRIP_AFTER_S
    ]
    found = [pair for pair in rates if pair[0] < DRIP_BYTES_S]
    return min(found, key=lambda pair: pair[0])[1] if found else None
