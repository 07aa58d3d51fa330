"""Whether the model answers at all: what readiness is judged by, beside being told to stop.

Counts predictions that failed through no fault of their callers, one after another. Knows no model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

MANY = 3  # in a row, with no answer between them
# After which the service offers itself again: asked no more, it could not mend.
MEMORY_S = 10.0


class FailureStreak:
    """How many predictions in a row have failed, and when the last one did.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._last_s = 0.0

    def end(self) -> None:
        """Count an answer."""
        self._count = 0

    def add(self) -> None:
        """Count a failure."""
        with self._lock:
            self._count += 1
            self._last_s = self._clock()

    @property
    def is_long(self) -> bool:
        """Return whether the last predictions have all failed, the last of them just now."""
        # Both: a streak from an hour ago says nothing of now.
        return self._count >= MANY and self._clock() - self._last_s < MEMORY_S
