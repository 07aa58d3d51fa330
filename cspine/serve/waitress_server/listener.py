"""Waitress with deadlines: a slow, silent or greedy client costs a socket for a while, no more.

Waitress's own time-out is one of inactivity, which a byte a second keeps alive, and its idle
connections count against its limit until they stop new ones. Here each request has a deadline for
its headers, its body and the reading of its answer, on a clock that never jumps, and a connection
that only waits yields when a place is needed. Knows no view.
"""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from waitress.server import TcpWSGIServer

from cspine.serve.waitress_server.connection import DeadlineChannel
from cspine.serve.waitress_server.dispatcher import LastingDispatcher, return_memory
from cspine.serve.waitress_server.early_refusal import OVERLOADED, ServerFullError, bounded_route
from cspine.serve.waitress_server.eviction import find_silent, find_yielding

MAX_HEADER_BYTES = 32 * 1024
MAX_CONNECTIONS = 512
# How often freed memory is handed back to the system.
TRIM_S = 10.0
COMPLAINT_S = 1.0  # between two warnings of a listener
# What the system says where it has no place for another connection, and how long to leave it then.
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_S = 0.1
RESERVE = 32  # places that waiting connections must leave free


@dataclass(frozen=True)
class Deadlines:
    """Seconds, each from the first byte of its part to the last."""

    header_s: float = 10.0
    body_s: float = 60.0
    work_s: float = 40.0  # from a request's place in the queue to the first byte of its answer
    answer_s: float = 60.0
    idle_s: float = 60.0


def _never_full() -> bool:
    return False


def _uncounted(route: str, method: str, status: int) -> None:
    """The counter of a listener whose refusals nobody counts."""


@dataclass(frozen=True)
class ListenerOptions:
    """What a listener is given: its deadlines, and what it asks and tells the service.

    `is_full` says whether every place is taken; `cors_origins` may read refusals from a browser;
    `count_refused_request` is called with (route, method, status).
    """

    deadlines: Deadlines = Deadlines()
    is_full: Callable[[], bool] = _never_full
    cors_origins: tuple[str, ...] = ()
    count_refused_request: Callable[[str, str, int], None] = _uncounted


class Sockets(dict[int, Any]):
    """All sockets of one loop: several listeners share its places and its memory."""

    # Counted anew only where it passes the cap: a walk for each byte of a drip would be slow.
    held_at_most = 0

    @property
    def channels(self) -> list[DeadlineChannel]:
        """Return the connections of all listeners."""
        return [one for one in self.copy().values() if isinstance(one, DeadlineChannel)]

    @property
    def held_bytes(self) -> int:
        """Return the bytes of all bodies that are on their way or being worked on."""
        return sum(channel.held_bytes for channel in self.channels)


class DeadlineServer(TcpWSGIServer):
    """A listener whose channels meet their deadlines."""

    channel_class = DeadlineChannel
    # Eleven of the largest bodies that are accepted by default.
    max_held_bytes = 512 * 1024 * 1024
    next_channel_cleanup = math.inf  # Waitress looks at the wall clock: set back, it looks no more
    task_dispatcher: LastingDispatcher
    _map: Sockets

    def __init__(self, *arguments: Any, options: ListenerOptions, **waitress: Any) -> None:
        # Before Waitress's own start, which may already take a connection.
        self.options = options
        super().__init__(*arguments, **waitress)
        self._next_look_s = self._next_trim_s = self._next_complaint_s = self._next_accept_s = 0.0
        self._awake_thread: int | None = None

    def add_task(self, task: DeadlineChannel) -> None:
        """Hand a whole request to a thread; where every place is taken, have it refused."""
        task.queued_s = time.monotonic()
        request = task.requests[0]
        if request.error is None and self.options.is_full() and bounded_route(request):
            request.error = ServerFullError(OVERLOADED)
        # By the loop itself: a refusal takes less than the way to a thread and back, and many come.
        if not (isinstance(request.error, ServerFullError) and task.refuse_at_once()):
            super().add_task(task)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Within, the loop's own thread does not wake the loop, which would cost it a turn."""
        self._awake_thread = threading.get_ident()
        try:
            yield
        finally:
            self._awake_thread = None

    def pull_trigger(self) -> None:
        """Wake the loop, unless it asks for it itself."""
        if threading.get_ident() != self._awake_thread:
            super().pull_trigger()

    @property
    def held_bytes(self) -> int:
        """Return the bytes of all bodies, those of other listeners' connections among them."""
        return self._map.held_bytes

    def is_overfull(self, count: int) -> bool:
        """Take note of `count` bytes; say whether all bodies are too many without the silent ones.

        A body that has paused ends before one that comes is refused.
        """
        self._map.held_at_most += count
        if self._map.held_at_most <= self.max_held_bytes:
            return False
        while (held_bytes := self.held_bytes) > self.max_held_bytes:
            silent = find_silent(self._map.channels, "body", time.monotonic())
            if silent is None:
                break
            silent.handle_close()
        self._map.held_at_most = held_bytes
        return held_bytes > self.max_held_bytes

    @property
    def is_busy(self) -> bool:
        """Return whether a request is being worked on or its answer still on its way."""
        return any(
            channel.waits_for() in ("work", "answer") for channel in self.active_channels.values()
        )

    def readable(self) -> bool:
        """Say whether connections are taken; look after deadlines, threads and memory."""
        # The loop asks before each wait, so at least once a second: its one regular turn.
        now_s = time.monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + self.adj.cleanup_interval
            self._close_late(now_s)
            self.task_dispatcher.replace_dead()
        if now_s >= self._next_trim_s:
            self._next_trim_s = now_s + TRIM_S
            return_memory()
        return now_s >= self._next_accept_s and bool(super().readable())

    def _close_late(self, now_s: float) -> None:
        """Close every connection that is past its deadline."""
        waits = [(channel, *channel.waiting_s(now_s)) for channel in self.active_channels.values()]
        limits = {
            "idle": self.options.deadlines.idle_s,
            "header": self.options.deadlines.header_s,
            "body": self.options.deadlines.body_s,
            "work": self.options.deadlines.work_s,
            "answer": self.options.deadlines.answer_s,
        }
        for channel, part, waited_s in waits:
            if waited_s > limits[part]:
                # As Waitress closes its idle ones: the loop does it, on its next turn.
                channel.will_close = True

    def handle_accept(self) -> None:
        """Take a connection; where places run out, one that only waits yields."""
        # Before Waitress's own limit, at which it takes nobody.
        if len(self._map.channels) >= self.adj.connection_limit - RESERVE:
            self._close_longest_waiting()
        super().handle_accept()

    def accept(self) -> tuple[Any, Any] | None:
        """Take a connection from the system; where it gives no more, one that only waits yields."""
        try:
            taken: tuple[Any, Any] | None = super().accept()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self._complain("no connection can be taken: %s", error.strerror)
            # The client is still there, and the loop would be back at once.
            if not self._close_longest_waiting():
                self._next_accept_s = time.monotonic() + PAUSE_S
            return None
        return taken

    def _close_longest_waiting(self) -> bool:
        """Close the connection that yields first; return whether one does."""
        waiting = find_yielding(self._map.channels, time.monotonic())
        if waiting is not None:
            # At once: the place is for the connection that is accepted next.
            waiting.handle_close()
        return waiting is not None

    def handle_error(self) -> None:
        """Go on listening, whatever went wrong: Waitress would close the listener for good."""
        self._complain("a connection could not be taken", exc_info=True)

    def _complain(self, text: str, *arguments: Any, **options: Any) -> None:
        """Log a warning, one a second: what goes wrong here may do so at each turn of the loop."""
        now_s = time.monotonic()
        if now_s >= self._next_complaint_s:
            self._next_complaint_s = now_s + COMPLAINT_S
            self.logger.warning(text, *arguments, **options)
