"""A rate limit for each caller: a token bucket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


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
