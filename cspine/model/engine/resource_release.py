"""One thread that releases the resources of engines, in an order that cannot deadlock.

OpenVINO waits until a dropped request ends; if the request is dropped in its own callback, it waits
for ever. It drops a network while it holds Python's lock, and waits for the network's threads; if
one of these threads needs Python's lock to release a callback, it waits for ever. If one of these
threads still runs when the interpreter ends, the process crashes. So dropping an engine only puts
its resources into a queue, which is safe even in a finaliser.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from queue import SimpleQueue
from typing import Any

import openvino as ov

END_S = 5.0  # for inferences that still run as the process ends


@dataclass(frozen=True, eq=False)
class Resources:
    """The OpenVINO objects of an engine, which are held here until `drop`.

    `network` holds the mapped weights first and then the compiled networks that point into them;
    `is_over` is set once no further request may start.
    """

    requests: list[ov.InferRequest] = field(default_factory=list)
    callbacks: list[weakref.ref[Callable[[int], None]]] = field(default_factory=list)
    network: list[Any] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def drop(self) -> None:
        """Drop each request once it has ended, then the network, then its weights."""
        for request in self.requests:
            with suppress(RuntimeError):  # the inference failed, which is an end as well
                request.wait()
            del request
        self.requests.clear()
        while any(callback() is not None for callback in self.callbacks):
            time.sleep(0.01)
        while self.network:
            self.network.pop()

    def wait(self, until_s: float) -> None:
        """Let no more requests start, and wait for running ones until `until_s` (monotonic)."""
        self.is_over.set()
        for request in self.requests:
            with suppress(RuntimeError):
                request.wait_for(max(0, round(1000 * (until_s - time.monotonic()))))


class _Releaser:
    """The releasing thread and its queue."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Resources | None] = SimpleQueue()
        self._alive: weakref.WeakSet[Resources] = weakref.WeakSet()
        self._thread = threading.Thread(target=self._work, name="retire", daemon=True)
        self._thread.start()
        atexit.register(self._end)

    def expect(self, engine: object, parts: Resources) -> None:
        """Drop the parts after the engine is freed, or wait for them when the process ends."""
        self._alive.add(parts)
        # No finaliser at exit, since other code may still use the engine: `_end` only waits for
        # running requests and drops nothing.
        weakref.finalize(engine, self._queue.put, parts).atexit = False

    def _work(self) -> None:
        while (parts := self._queue.get()) is not None:
            parts.drop()
            del parts

    def _end(self) -> None:
        until_s = time.monotonic() + END_S
        for parts in list(self._alive):
            parts.wait(until_s)
        self._queue.put(None)
        self._thread.join(max(0.0, until_s - time.monotonic()))


@cache
def _releaser() -> _Releaser:
    return _Releaser()


def release_with(engine: object, parts: Resources) -> None:
    """Have `parts` dropped in order, on the releasing thread, after `engine` is freed."""
    _releaser().expect(engine, parts)


def weak_callback(method: Callable[[int], None]) -> Callable[[int], None]:
    """Return a callback for an engine's requests that calls `method` without keeping it alive.

    Python's garbage collector cannot see OpenVINO's reference to a callback. With a strong
    reference, the cycle of engine, request and callback would never be freed, and every model ever
    served would stay in memory. A pending answer holds its engine, so if the engine is gone, no
    answer is left to set.
    """
    finish = weakref.WeakMethod(method)

    def call(key: int) -> None:
        alive = finish()
        if alive is not None:
            alive(key)

    return call
