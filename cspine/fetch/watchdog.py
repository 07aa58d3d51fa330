"""The end of one fetch, and the thread that shuts connections down when theirs has come.

One thread watches all of them: a timer for each would be a thread for each fetch.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from cspine.core.errors import FetchTimeoutError


class FetchDeadline:
    """The end of one fetch: what is left of it, and the connections it will shut down."""

    def __init__(self, seconds: float) -> None:
        self.at_s = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Return the seconds left; raise FetchTimeoutError where none are."""
        left = self.at_s - time.monotonic()
        if left <= 0:
            raise FetchTimeoutError("The image was not fetched within its deadline.")
        return left

    @contextmanager
    def guard(self, connection: socket.socket) -> Iterator[None]:
        """Shut the connection down when the deadline passes, whoever reads from it then."""
        # A duplicate outlives the wrapping in TLS; shutting it down ends both, in both directions.
        with connection.dup() as duplicate, _watchdog().watching(duplicate, self.at_s):
            yield


class _Watchdog:
    """Connections, and when each is to be shut down."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends_s: dict[socket.socket, float] = {}
        self._wakes_s = math.inf
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, connection: socket.socket, at_s: float) -> Iterator[None]:
        """Shut `connection` down at that time of `time.monotonic`, unless this has ended before."""
        with self._changed:
            self._ends_s[connection] = at_s
            if at_s < self._wakes_s:
                self._changed.notify()
            # One that has died, of a lack of memory, is replaced.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            # Under the lock: never after its number may be another's.
            with self._changed:
                self._ends_s.pop(connection, None)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now_s = time.monotonic()
                for late in [one for one, at_s in self._ends_s.items() if at_s <= now_s]:
                    del self._ends_s[late]
                    with suppress(OSError):  # the peer was faster
                        late.shutdown(socket.SHUT_RDWR)
                self._wakes_s = min(self._ends_s.values(), default=math.inf)
                self._changed.wait(None if self._wakes_s == math.inf else self._wakes_s - now_s)


@cache
def _watchdog() -> _Watchdog:
    return _Watchdog()
