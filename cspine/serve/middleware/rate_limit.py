"""Limit the rate of each caller with a token bucket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Rate:
    """A token bucket for each caller.

    A bucket gains `per_s` tokens per second and holds at most one second's worth.

    Args:
        per_s: tokens per second; None for no limit.
        clock: returns monotonic seconds.
    """

    def __init__(self, per_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._lock = threading.Lock()
        # There is at most one bucket for each key, so the number of buckets is bounded.
        self._buckets: dict[int, tuple[float, float]] = {}  # caller → tokens, time of count

    def take(self, caller: int) -> float:
        """Take one token and return 0, or return the seconds to wait if there is no token."""
        if self._per_s is None:
            return 0.0
        # A bucket that can hold less than one token would never admit a request.
        most = max(self._per_s, 1.0)
        with self._lock:
            now = self._clock()
            tokens, counted = self._buckets.get(caller, (most, now))
            tokens = min(most, tokens + (now - counted) * self._per_s)
            enough = tokens >= 1.0
            # A refused request takes no token, so repeated attempts do not lengthen the wait.
            self._buckets[caller] = (tokens - 1.0 if enough else tokens, now)
            return 0.0 if enough else (1.0 - tokens) / self._per_s

    def charge(self, caller: int, tokens: int) -> None:
        """Take more tokens from an admitted caller; a deficit delays the caller's next request."""
        with self._lock:
            if caller in self._buckets:  # absent if there is no limit
                left, counted = self._buckets[caller]
                self._buckets[caller] = (left - tokens, counted)
