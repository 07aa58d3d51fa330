"""Who gets in: a bounded number of predictions at once, API keys, and a rate for each key.

Knows counts, keys and clocks; not what a prediction is.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cspine.core.errors import OverloadedError


class Admission:
    """A bounded number of places; who finds none is told so at once, never queued."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0
        self._closed = False
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Return the number of places taken now."""
        return self._taken

    @property
    def is_full(self) -> bool:
        """Return whether the next one would be refused."""
        # Read without the lock: an answer that is late by one place does no harm.
        return self._taken >= self._places

    def close(self) -> None:
        """Refuse everybody from now on; those who are in stay."""
        # One assignment and no lock: a signal handler calls this.
        self._closed = True

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one place.

        Raises:
            OverloadedError: all are taken, or the service is stopping.
        """
        # Five seconds, in which another instance may have taken over.
        if self._closed:
            raise OverloadedError("The service is stopping. Try again in a few seconds.", 5)
        with self._lock:
            if self.is_full:
                raise OverloadedError(
                    f"The service holds as many predictions as it accepts, {self._places}. "
                    "Try again in a second."
                )
            self._taken += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1


class Keys:
    """The API keys, compared in constant time; with none, everybody may call."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        # As bytes: of text `compare_digest` takes ASCII alone, and raises for the rest.
        # The environment's bytes that are no UTF-8 come as surrogates.
        self._keys = [key.encode("utf-8", "surrogateescape") for key in keys]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, sent: str) -> int | None:
        """Return the index of the key that was sent, None for no key of ours."""
        found = None
        # All of them, always: no early end to time.
        for index, key in enumerate(self._keys):
            # As it came over the wire: WSGI reads each byte of a header as a character.
            if hmac.compare_digest(key, sent.encode("latin-1", "replace")):
                found = index
        return found


class Rate:
    """A token bucket for each caller: `per_s` tokens a second, at most one second's worth kept.

    Args:
        per_s: tokens a second; None lets everything through.
        clock: seconds that never go back.
    """

    def __init__(self, per_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._lock = threading.Lock()
        # One for each key at most, so none need be forgotten.
        self._buckets: dict[int, tuple[float, float]] = {}  # caller: tokens, when counted

    def take(self, caller: int) -> float:
        """Take one token; return 0, or the seconds to wait where there is none."""
        if self._per_s is None:
            return 0.0
        # With less than one token a bucket of a slow rate would never let anybody in.
        most = max(self._per_s, 1.0)
        with self._lock:
            now = self._clock()
            tokens, counted = self._buckets.get(caller, (most, now))
            tokens = min(most, tokens + (now - counted) * self._per_s)
            enough = tokens >= 1.0
            # A refused request takes nothing, so asking too often does not lengthen the wait.
            self._buckets[caller] = (tokens - 1.0 if enough else tokens, now)
            return 0.0 if enough else (1.0 - tokens) / self._per_s

    def charge(self, caller: int, tokens: int) -> None:
        """Take more tokens of a caller who was let in; those that lack are waited for next time."""
        with self._lock:
            if caller in self._buckets:  # else nothing is counted
                left, counted = self._buckets[caller]
                self._buckets[caller] = (left - tokens, counted)
