"""The places in which images are decoded: as many at once as there are cores."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cspine.core.deadline import Deadline, LateError
from cspine.predict.stage_times import Observe


class DecodeSlots:
    """A bounded number of places; `observe` is called with `slot` and the seconds of the wait."""

    def __init__(self, count: int, observe: Observe) -> None:
        # Bounded: a release too many would be a defect, and is raised as one.
        self._places = threading.BoundedSemaphore(count)
        self._observe = observe

    @contextmanager
    def hold(self, deadline: Deadline) -> Iterator[None]:
        """Hold a place while the block runs.

        Raises:
            LateError: the deadline ran out before one was free.
        """
        start = time.perf_counter()
        # A timeout, and no queue without end: late work helps nobody.
        if not self._places.acquire(timeout=deadline.remaining_s()):
            raise LateError
        try:
            self._observe("slot", time.perf_counter() - start)
            deadline.remaining_s()
            yield
        finally:
            self._places.release()
