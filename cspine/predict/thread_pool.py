"""A pool of threads that work on the items of a list in parallel, and are replaced if they hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

from cspine.core.deadline import Deadline, LateError

Item = TypeVar("Item")
Result = TypeVar("Result")
# Extra time after the deadline: `work` checks the deadline itself, but not while it decodes.
_GRACE_S = 5.0


class Pool:
    """A bounded number of threads, shared by the lists of all requests.

    Args:
        threads: the number of items worked on at once.
        name: prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads, self._name = threads, name
        self._lock = threading.Lock()
        self._executor = self._start()

    def map(
        self, work: Callable[[Item], Result], items: Iterable[Item], deadline: Deadline
    ) -> list[Result]:
        """Return the result of `work` for each item, in order.

        Raises:
            LateError: an item was not done soon after the deadline.
        """
        executor = self._executor
        futures = [executor.submit(work, item) for item in items]
        try:
            return [future.result(deadline.left_s(_GRACE_S)) for future in futures]
        except FutureTimeoutError:
            # An executor does not notice if its threads have died: later lists would wait for them
            # for ever, and keep their slots.
            self._replace(executor)
            raise LateError from None
        finally:
            for future in futures:
                future.cancel()

    def _start(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)

    def _replace(self, stuck: ThreadPoolExecutor) -> None:
        """Start new threads for later lists, once even if several callers find `stuck`."""
        with self._lock:
            if self._executor is stuck:
                self._executor = self._start()
        stuck.shutdown(wait=False)
