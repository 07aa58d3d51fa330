"""Waitress's threads, each replaced should it ever die, their memory and the files they may open.

Knows no request.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from waitress.task import ThreadedTaskDispatcher

logger = logging.getLogger(__name__)

# For connections, fetches, codec children and models; a shell often allows 256 or 1024.
FILES = 16384
_MIB = 1024 * 1024
# Of glibc's malloc.h. It gives each of many threads an arena of its own, and each keeps what its
# largest request needed: resident memory rose for thousands of requests, by a third and more. And
# each large block freed teaches it to keep larger ones; given a threshold, it learns no more.
_MALLOC_OPTIONS = {
    -8: 2,  # M_ARENA_MAX
    -3: 4 * _MIB,  # M_MMAP_THRESHOLD: more than any part of a 512 × 512 slice needs
    -1: 16 * _MIB,  # M_TRIM_THRESHOLD: below, each request would ask for its pages anew
}


def bound_memory() -> None:
    """Have glibc's malloc keep little, before there are threads; elsewhere, do nothing."""
    with suppress(AttributeError, OSError, TypeError):  # another C library, or none by that name
        for option, value in _MALLOC_OPTIONS.items():
            ctypes.CDLL(None).mallopt(option, value)


def return_memory() -> None:
    """Have glibc's malloc return what it holds and nobody uses; elsewhere, do nothing."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def raise_file_limit() -> None:
    """Let the process open enough files, as far as the system lets it; elsewhere, do nothing."""
    with suppress(ImportError, OSError, ValueError):  # Windows has neither module nor limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        enough = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < enough:
            resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


class LastingDispatcher(ThreadedTaskDispatcher):
    """A fixed number of threads that work off a queue of tasks.

    Waitress's threads outlive whatever a task raises, but not what is raised while they wait for
    one: a MemoryError where the machine has no memory left. It would count them as waiting for
    ever, and with the last of them the service would be silent.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self._alive: dict[int, threading.Thread] = {}
        self.set_thread_count(count)

    def start_new_thread(self, target: Callable[[int], None], thread_no: int) -> None:
        """Start one thread, and remember it."""
        name = f"waitress-{thread_no}"
        thread = threading.Thread(target=target, args=(thread_no,), name=name, daemon=True)
        thread.start()
        self._alive[thread_no] = thread

    def replace_dead(self) -> None:
        """Start a thread for each one that died; where none can be started, later."""
        dead = [number for number, thread in self._alive.items() if not thread.is_alive()]
        for number in dead:
            del self._alive[number]
            with self.lock:
                self.threads.discard(number)
        if dead:
            logger.error("%d worker threads died and are replaced", len(dead))
        missing = self._count - len(self.threads)
        if missing > 0 and not self.stop_count:
            self._start_missing()

    def _start_missing(self) -> None:
        try:
            self.set_thread_count(self._count)
        except (RuntimeError, MemoryError):
            with self.lock:
                # Waitress lists a thread before it starts: one that could not start must not count.
                self.threads.intersection_update(self._alive)
            logger.exception("a worker thread could not be started")
