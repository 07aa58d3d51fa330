"""Limit the rate of each caller with a token bucket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Rate:
    """A token bucket for each caller: `per_s` tokens a second, at most one second's worth kept.

    Args:
        per_s: tokens a second; None for no limit.
        clock: monotonic seconds.
    """

    def __init__(self, per_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._lock = threading.Lock()
        # At most one for each key, so the number is bounded.
        self._buckets: dict[int, tuple[float, float]] = {}  # caller: tokens, when counted

    def take(self, caller: int) -> float:
        """Take one token; return 0, or the seconds to wait if there is none."""
        if self._per_s is None:
            return 0.0
        # A bucket that holds less than one token would never admit a request.
        most = max(self._per_s, 1.0)
        with self._lock:
            now = self._clock()
            tokens, counted = self._buckets.get(caller, (most, now))
            tokens = min(most, tokens + (now - counted) * self._per_s)
            enough = tokens >= 1.0
            # A refused request takes nothing, so repeated attempts do not lengthen the wait.
            self._buckets[caller] = (tokens - 1.0 if enough else tokens, now)
            return 0.0 if enough else (1.0 - tokens) / self._per_s

    def charge(self, caller: int, tokens: int) -> None:
        """Take more tokens of an admitted caller; missing ones delay its next request."""
        with self._lock:
            if caller in self._buckets:  # absent if there is no limit
                left, counted = self._buckets[caller]
                self._buckets[caller] = (left - tokens, counted)
