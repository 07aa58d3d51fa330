"""Admit a bounded number of predictions at once and refuse all further ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cspine.core.errors import OverloadedError


class Admission:
    """A bounded number of slots for predictions in progress, called places in the code.

    A request that finds no free slot is refused at once; it is never queued.

    Args:
        places: the number of slots.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0
        self._closed = False
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Return the number of slots taken now."""
        return self._taken

    @property
    def is_full(self) -> bool:
        """Return whether the next request would be refused."""
        # The count is read without the lock: a result that is off by one slot does no harm.
        return self._taken >= self._places

    def close(self) -> None:
        """Refuse all new requests from now on; requests that hold a slot keep it."""
        # A signal handler calls this function, so it is one assignment and takes no lock.
        self._closed = True

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one slot while the context lasts.

        Raises:
            OverloadedError: all slots are taken, or the service is stopping.
        """
        # The client is to wait five seconds, in which another instance may take over.
        if self._closed:
            raise OverloadedError("The service is stopping. Try again in a few seconds.", 5)
        with self._lock:
            if self.is_full:
                raise OverloadedError(
                    f"The service already holds {self._places} predictions, its maximum. "
                    "Try again in a second."
                )
            self._taken += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1
