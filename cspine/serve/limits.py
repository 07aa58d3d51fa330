"""Waitress with deadlines: a slow, silent or greedy client costs a socket for a while, no more.

Waitress's own time-out is one of inactivity, which a byte a second keeps alive, and its idle
connections count against its limit until they stop new ones. Here each request has a deadline for
its headers, its body and the reading of its answer, on a clock that never jumps, and a connection
that only waits yields when a place is needed. Waitress's own refusals become problem documents.
Knows no view.
"""

from __future__ import annotations

import json
import logging
import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask
from waitress.utilities import BadRequest, Error, ServerNotImplemented

from cspine.serve.gate import ACCESS_LOG, HEADERS, read_request_id
from cspine.serve.parsing import PIECE_BYTES, BoundedParser
from cspine.serve.workers import LastingDispatcher, return_memory

access = logging.getLogger(ACCESS_LOG)

MAX_HEADER_BYTES = 32 * 1024
MAX_CONNECTIONS = 512
MALFORMED = "The request must be well-formed HTTP/1.1 within the service's limits."
OVERLOADED = "The service holds as much work as it accepts. Try again in a second."
BOUNDED_PATH = "/predict"
# How often freed memory is handed back to the system.
TRIM_S = 10.0
RESERVE = 32  # places that waiting connections must leave free
# What yields, in this order, and after how many seconds without a byte: an honest client sends its
# header at once, and its body without a pause.
YIELDING = {"idle": 0.0, "header": 0.0, "body": 2.0}
# A body this slow is late in any case.
DRIP_BYTES_S, DRIP_AFTER_S = 1024.0, 5.0


@dataclass(frozen=True)
class Deadlines:
    """Seconds, each from the first byte of its part to the last."""

    header_s: float = 10.0
    body_s: float = 60.0
    answer_s: float = 60.0
    idle_s: float = 60.0


class OverloadError(Error):
    """Every place is taken: said before the request costs a thread's time in the application."""

    code = 503
    reason = "Service Unavailable"


class CrowdedError(OverloadError):
    """All bodies together are too many: said before the rest of this one is read."""


class ProblemTask(ErrorTask):
    """A request that Waitress refuses: answered as a problem document."""

    def execute(self) -> None:
        """Write the answer, and end the connection unless its request was whole."""
        error = self.request.error
        if isinstance(error, ServerNotImplemented):
            error = BadRequest(error.body)  # an odd Transfer-Encoding is no fault of ours
        is_overload = isinstance(error, OverloadError)
        request_id = read_request_id(self.request.headers.get("X_REQUEST_ID", ""))
        body = json.dumps({
            "type": "about:blank",
            "title": error.reason,
            "status": error.code,
            "detail": OVERLOADED if is_overload else MALFORMED,
            "request_id": request_id,
        }).encode()  # fmt: skip
        self.status = f"{error.code} {error.reason}"
        # No view and so no gate is reached, which adds these elsewhere.
        self.response_headers += [*HEADERS.items(), ("X-Request-ID", request_id)]
        self.response_headers.append(("Content-Type", "application/problem+json"))
        # Of a refused request all may be invented: only what is known is named.
        known = (getattr(self.request, "command", ""), self.request.path) == ("POST", BOUNDED_PATH)
        route = ("POST", BOUNDED_PATH) if known else ("other", "unknown")
        access.info("request", extra={"request_id": request_id, "method": route[0],
                                      "route": route[1], "status": error.code})  # fmt: skip
        if is_overload:
            self.response_headers.append(("Retry-After", "1"))
        # The rest of such a request may still come, and would be read as the next one.
        if not is_overload or isinstance(error, CrowdedError):
            self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class DeadlineChannel(HTTPChannel):
    """One connection that knows since when it waits for what."""

    error_task_class = ProblemTask
    parser_class = BoundedParser
    request: Any  # what is being received: a BoundedParser, or None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._part: str = "idle"
        self._part_since_s = self.last_byte_s = time.monotonic()

    def handle_read(self) -> None:
        """Read what came, if anything did.

        A connection that yields may leave an event behind, which then meets the next one under the
        same number; Waitress would take its empty socket for a broken one.
        """
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            pass  # Waitress meets it again, and ends the connection
        super().handle_read()

    def received(self, data: bytes) -> bool:
        """Take bytes from the client; refuse a body where all bodies together are too many."""
        self.last_byte_s = time.monotonic()
        if self._part == "idle":
            self._part_since_s = self.last_byte_s  # a request may come and be answered unseen
        # In small pieces, unless all is body: Waitress copies what is left for each line and chunk.
        before = self.request
        whole = before is not None and before.takes_whole(len(data))
        step = len(data) if whole else PIECE_BYTES
        taken = True
        for start in range(0, len(data), step):
            taken = bool(super().received(data[start : start + step])) and taken
        if self.request is not None and self.request is not before:
            # From its first byte on, not from the next look at the clocks.
            self._enter("header")
        if self.request is not None and self.server.held_bytes > self.server.max_held_bytes:
            self._refuse()
        return taken

    def send_continue(self) -> None:
        """Ask for the body, unless the request is whole or refused: Waitress would wait."""
        if self.request.completed:
            self.request.expect_continue = False
        else:
            super().send_continue()

    @property
    def held_bytes(self) -> int:
        """Return the bytes of bodies that are on their way or being worked on."""
        parsers = (*self.requests, self.request)
        return sum(one.body_bytes_received for one in parsers if one is not None)

    def _refuse(self) -> None:
        """End the request that is being received: there is no room for its body now."""
        # As Waitress queues a request that is whole: its error makes the answer.
        with self.requests_lock:
            self.request.error = CrowdedError(OVERLOADED)
            self.request.completed = True
            self.requests.append(self.request)
            self.request = None
            if len(self.requests) == 1:
                self.server.add_task(self)

    def _enter(self, part: str) -> None:
        if part != self._part:
            self._part, self._part_since_s = part, time.monotonic()

    def waits_for(self) -> str:
        """Return what the connection waits for: `idle`, `header`, `body`, `work` or `answer`."""
        if self.total_outbufs_len:
            return "answer"
        if self.requests:
            return "work"
        if self.request is None:
            return "idle"
        return "body" if self.request.headers_finished else "header"

    def silent_s(self, now_s: float) -> float:
        """Return for how many seconds nothing came, nor was anything else waited for."""
        return now_s - max(self.last_byte_s, self._part_since_s)

    def waiting_s(self, now_s: float) -> tuple[str, float]:
        """Return what the connection waits for and since how many seconds."""
        self._enter(self.waits_for())
        return self._part, now_s - self._part_since_s


class DeadlineServer(TcpWSGIServer):
    """A listener whose channels meet their deadlines."""

    channel_class = DeadlineChannel
    deadlines = Deadlines()
    # Eleven of the largest bodies that are accepted by default.
    max_held_bytes = 512 * 1024 * 1024
    next_channel_cleanup = math.inf  # Waitress looks at the wall clock: set back, it looks no more
    task_dispatcher: LastingDispatcher

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._next_look_s = self._next_trim_s = 0.0
        self.is_full: Callable[[], bool] = lambda: False
        self.on_overload: Callable[[], None] = lambda: None

    def add_task(self, task: DeadlineChannel) -> None:
        """Hand a whole request to a thread; where every place is taken, with its answer made."""
        request = task.requests[0]
        if request.error is None and request.path == BOUNDED_PATH and self.is_full():
            request.error = OverloadError(OVERLOADED)
            self.on_overload()
        super().add_task(task)

    @property
    def held_bytes(self) -> int:
        """Return the bytes of all bodies that are on their way or being worked on."""
        return sum(channel.held_bytes for channel in self.active_channels.values())

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
        return bool(super().readable())

    def _close_late(self, now_s: float) -> None:
        """Close every connection that is past its deadline."""
        waits = [(channel, *channel.waiting_s(now_s)) for channel in self.active_channels.values()]
        # None for `work`: a prediction has a deadline of its own.
        limits = {
            "idle": self.deadlines.idle_s,
            "header": self.deadlines.header_s,
            "body": self.deadlines.body_s,
            "answer": self.deadlines.answer_s,
        }
        for channel, part, waited_s in waits:
            if waited_s > limits.get(part, float("inf")):
                # As Waitress closes its idle ones: the loop does it, on its next turn.
                channel.will_close = True

    def handle_accept(self) -> None:
        """Take a connection; where places run out, one that only waits yields."""
        # Before Waitress's own limit, at which it takes nobody.
        if len(self.active_channels) >= self.adj.connection_limit - RESERVE:
            self._close_longest_waiting()
        super().handle_accept()

    def _close_longest_waiting(self) -> None:
        """Close the connection that has sent nothing for longest, of the first kind that yields.

        Where none does, a body that only drips: a byte now and then holds no place.
        """
        now_s = time.monotonic()
        silent = [(one.silent_s(now_s), one) for one in self.active_channels.values()]
        for part, least_s in YIELDING.items():
            found = [pair for pair in silent if pair[1].waits_for() == part and pair[0] >= least_s]
            if found:
                # At once: the place is for the connection that is accepted next.
                max(found, key=lambda pair: pair[0])[1].handle_close()
                return
        waits = [(one, *one.waiting_s(now_s)) for _, one in silent]
        rates = [
            (one.held_bytes / waited_s, one)
            for one, part, waited_s in waits
            if part == "body" and waited_s > DRIP_AFTER_S
        ]
        rate, slowest = min(rates, key=lambda pair: pair[0], default=(math.inf, None))
        if slowest is not None and rate < DRIP_BYTES_S:
            slowest.handle_close()
