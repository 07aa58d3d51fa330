"""Admit a bounded number of predictions at once and refuse the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cspine.core.errors import OverloadedError


class Admission:
    """A bounded number of places; a request that finds none is refused at once, never queued.

    Args:
        places: how many there are.
    """

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
        """Return whether the next request would be refused."""
        # Read without the lock: an answer that is late by one place does no harm.
        return self._taken >= self._places

    def close(self) -> None:
        """Refuse all requests from now on; those that hold a place keep it."""
        # One assignment and no lock: a signal handler calls this.
        self._closed = True

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one place.

        Raises:
            OverloadedError: all are taken, or the service is stopping.
        """
        # In five seconds another instance may have taken over.
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
