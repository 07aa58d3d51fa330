"""What fails through no fault of its caller: what that says of the model, and what is told.

Readiness is judged by predictions that failed one after another. Knows no model and no HTTP.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

from cspine.core.errors import CspineError, OverloadedError

MANY = 3  # in a row, with no answer between them
# After which the service offers itself again: asked no more, it could not mend.
MEMORY_S = 10.0
OUR_FAULT = "The service met a fault of its own. The log has it under this request's id."
# Out of threads or processes, of open files (ours, the system's), of buffers, of memory.
_SCARCE = frozenset((errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class FaultError(CspineError):
    """A defect of ours, of whose inside the caller learns nothing; its cause is for the log."""


def as_fault(error: Exception) -> CspineError:
    """Return what a caller is told in place of an error that nobody expected, its cause."""
    told: CspineError = FaultError(OUR_FAULT)
    if lacks_resource(error):
        told = OverloadedError("The service lacks memory for this now. Try again.", 5)
    told.__cause__ = error
    return told


def lacks_resource(error: Exception) -> bool:
    """Return whether `error` says that memory, threads, processes or open files ran out."""
    if isinstance(error, OSError):
        return error.errno in _SCARCE
    # Python has no class of its own for a thread that the system does not grant.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    )


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
