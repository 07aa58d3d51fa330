"""Limit how many images are decoded at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cspine.core.deadline import Deadline, LateError
from cspine.predict.stage_times import Observe


class DecodeSlots:
    """A bounded number of places.

    Args:
        count: how many there are.
        observe: called with `slot` and the seconds of each wait.
    """

    def __init__(self, count: int, observe: Observe) -> None:
        # Bounded: one release too many is a defect, and raises.
        self._places = threading.BoundedSemaphore(count)
        self._observe = observe

    @contextmanager
    def hold(self, deadline: Deadline) -> Iterator[None]:
        """Hold a place while the block runs.

        Raises:
            LateError: the deadline passed before one was free.
        """
        start = time.perf_counter()
        # With a timeout: a prediction that is late is never sent.
        if not self._places.acquire(timeout=deadline.remaining_s()):
            raise LateError
        try:
            self._observe("slot", time.perf_counter() - start)
            deadline.remaining_s()
            yield
        finally:
            self._places.release()
