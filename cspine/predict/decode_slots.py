"""A limit on how many images are decoded at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cspine.core.deadline import Deadline, LateError
from cspine.predict.stage_times import Observe


class DecodeSlots:
    """A bounded number of slots; an image holds one while it is decoded.

    Args:
        count: the number of slots.
        observe: called with "slot" and the seconds that a caller waited for one.
    """

    def __init__(self, count: int, observe: Observe) -> None:
        # A BoundedSemaphore raises if a defect releases a slot twice.
        self._places = threading.BoundedSemaphore(count)
        self._observe = observe

    @contextmanager
    def hold(self, deadline: Deadline) -> Iterator[None]:
        """Hold a slot while the block runs.

        Raises:
            LateError: the deadline passed before a slot was free.
            UnwantedError: the client has disconnected.
        """
        start = time.perf_counter()
        # The wait ends at the deadline, since a late prediction is not sent.
        if not self._places.acquire(timeout=deadline.remaining_s()):
            raise LateError
        try:
            self._observe("slot", time.perf_counter() - start)
            deadline.remaining_s()
            yield
        finally:
            self._places.release()
