"""One thread that releases the resources of engines, in an order that cannot deadlock.

OpenVINO waits for a request that is dropped: in the request's own callback, for ever. It drops a
network with Python's lock held and waits for its threads: for ever, if one of them needs that lock
to release a callback. And if one of its threads runs at the interpreter's end, the process crashes.
So dropping an engine only puts its resources into a queue, which is safe even in a finaliser.
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
    """OpenVINO's objects of an engine, which are held here until `drop`.

    `network` is what is compiled, below it the weights that it points into; `is_over` is set
    when no request may start any more.
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
        """Start nothing more, and wait for what runs until that time of `time.monotonic`."""
        self.is_over.set()
        for request in self.requests:
            with suppress(RuntimeError):
                request.wait_for(max(0, round(1000 * (until_s - time.monotonic()))))


class _Releaser:
    """The thread and its queue."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Resources | None] = SimpleQueue()
        self._alive: weakref.WeakSet[Resources] = weakref.WeakSet()
        self._thread = threading.Thread(target=self._work, name="retire", daemon=True)
        self._thread.start()
        atexit.register(self._end)

    def expect(self, engine: object, parts: Resources) -> None:
        """Retire the parts when the engine ends, and wait for them when the process does."""
        self._alive.add(parts)
        # Not at exit, where others may still use it: `_end` waits for what runs, and drops nothing.
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
    """Have `parts` dropped in their order, on a thread of its own, after `engine` is freed."""
    _releaser().expect(engine, parts)


def weak_callback(method: Callable[[int], None]) -> Callable[[int], None]:
    """Return a callback for an engine's requests that calls `method` and keeps no engine alive.

    OpenVINO's hold on a callback is hidden from Python's collector: engine, request, callback and
    engine again would stay in memory for ever, with every model that was ever served. An answer
    that is waited for holds the engine, so without an engine there is no answer to set.
    """
    finish = weakref.WeakMethod(method)

    def call(key: int) -> None:
        alive = finish()
        if alive is not None:
            alive(key)

    return call
