"""Threads that do the items of a list in parallel, and are replaced if they hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

from cspine.core.deadline import Deadline, LateError

Item = TypeVar("Item")
Result = TypeVar("Result")
# An item checks the deadline itself, but not in the middle of decoding.
_GRACE_S = 5.0


class Pool:
    """A bounded number of threads, shared by the lists of all requests.

    Args:
        threads: items done at once.
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
            # Threads may have died while they waited, which an executor does not notice: a list
            # would wait for them for ever and keep its place.
            self._replace(executor)
            raise LateError from None
        finally:
            for future in futures:
                future.cancel()

    def _start(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)

    def _replace(self, stuck: ThreadPoolExecutor) -> None:
        """Start new threads for later lists, once for all callers that found `stuck`."""
        with self._lock:
            if self._executor is stuck:
                self._executor = self._start()
        stuck.shutdown(wait=False)
