"""The deadline of a fetch, and the thread that shuts down its connection when the deadline passes.

One thread watches all connections, since a timer for each would need a thread per fetch.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from cspine.core.deadline import Deadline
from cspine.core.errors import FetchTimeoutError


def remaining_s(deadline: Deadline) -> float:
    """Return the seconds left of a fetch's deadline.

    Raises:
        FetchTimeoutError: no time is left.
    """
    left_s = deadline.left_s()
    if not left_s:
        raise FetchTimeoutError("The image was not fetched within its deadline.")
    return left_s


@contextmanager
def guard(connection: socket.socket, deadline: Deadline) -> Iterator[None]:
    """Shut the connection down if the deadline passes in the block; that ends any read from it."""
    # Wrapping in TLS detaches the original socket but not this duplicate. A shutdown of the
    # duplicate ends the connection in both directions.
    with connection.dup() as duplicate, _watchdog().watching(duplicate, deadline.due_s):
        yield


class _Watchdog:
    """Watches connections, and shuts each down at its own time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends_s: dict[socket.socket, float] = {}
        self._wakes_s = math.inf
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, connection: socket.socket, at_s: float) -> Iterator[None]:
        """Shut `connection` down at `at_s` (`time.monotonic`), unless the block ends before."""
        with self._changed:
            self._ends_s[connection] = at_s
            if at_s < self._wakes_s:
                self._changed.notify()
            # The thread may have ended for lack of memory; then it is replaced.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            # Removed under the lock, because another connection may soon reuse the file descriptor.
            with self._changed:
                self._ends_s.pop(connection, None)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now_s = time.monotonic()
                for late in [one for one, at_s in self._ends_s.items() if at_s <= now_s]:
                    del self._ends_s[late]
                    with suppress(OSError):  # the peer has closed it already
                        late.shutdown(socket.SHUT_RDWR)
                self._wakes_s = min(self._ends_s.values(), default=math.inf)
                self._changed.wait(None if self._wakes_s == math.inf else self._wakes_s - now_s)


@cache
def _watchdog() -> _Watchdog:
    return _Watchdog()
