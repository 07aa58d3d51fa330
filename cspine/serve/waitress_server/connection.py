"""One connection of Waitress that measures how long the client takes for each part of a request."""

from __future__ import annotations

import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.utilities import Error

from cspine.serve.waitress_server.early_refusal import ProblemTask
from cspine.serve.waitress_server.parser import RequestParser

# The least pace of a body and of the reading of an answer: a slower client may lose its place.
PACE_BYTES_S = 1024.0
# Requests that may wait for their turn on one connection: a read may hold a thousand, and answers
# that the client does not read would block a thread for each connection.
MAX_QUEUED = 8


class DeadlineChannel(HTTPChannel):
    """A connection with two clocks: how long the part has lasted, and how far the client lags.

    The parts are `idle`, `header`, `body`, `work` (the service has the request) and `answer`.
    """

    error_task_class = ProblemTask
    parser_class = RequestParser
    request: Any  # the parser of the request that is being received, or None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.begin("idle")

    def begin(self, part: str) -> None:
        """Start the clocks of a part."""
        self._part = part
        # `_paced_s` is when a client of exactly PACE_BYTES_S would have got as far as this one.
        self._since_s = self._paced_s = time.monotonic()

    def current_part(self) -> str:
        """Return the part; the clocks of a new one start."""
        if self.total_outbufs_len:
            part = "answer"
        elif self.requests:
            part = "work"
        elif self.request is None:
            part = "idle"
        else:
            part = "body" if self.request.headers_finished else "header"
        if part != self._part:
            self.begin(part)
        return part

    def elapsed_s(self, now_s: float) -> float:
        """Return for how many seconds the part has lasted."""
        return now_s - self._since_s

    def lag_s(self, now_s: float) -> float:
        """Return how many seconds the client is behind the least pace."""
        return now_s - self._paced_s

    def _count(self, moved_bytes: int) -> None:
        # Up to now, no further: bytes that came fast give no right to a pause.
        self._paced_s = min(time.monotonic(), self._paced_s + moved_bytes / PACE_BYTES_S)

    @property
    def receives_body(self) -> bool:
        """Return whether a body is on its way, behind other requests or not."""
        return self.request is not None and self.request.headers_finished

    @property
    def held_bytes(self) -> int:
        """Return the bytes of bodies that are on their way or being worked on."""
        parsers = [*self.requests, self.request]
        return sum(one.body_bytes_received for one in parsers if one and not one.error)

    def received(self, data: bytes) -> bool:
        """Take bytes from the client."""
        self.server.sockets.new_bytes += len(data)
        self._count(len(data))
        taken = bool(super().received(data))
        with self.requests_lock:
            if len(self.requests) > MAX_QUEUED:
                self.requests[MAX_QUEUED - 1].headers["CONNECTION"] = "close"
                del self.requests[MAX_QUEUED:]
        self.current_part()  # it begins with its first byte, not when it is next asked for
        return taken

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Send a part of the answer; return how many bytes the system took."""
        sent = int(super().send(data, do_close))
        self._count(sent)
        return sent

    def send_continue(self) -> None:
        """Ask for the body, unless the request is whole or refused: Waitress would wait for one."""
        if self.request.completed:
            self.request.expect_continue = False
        else:
            super().send_continue()

    def handle_expt(self) -> None:
        """Close the connection: HTTP has no urgent bytes, and one would wake the loop for ever."""
        self.handle_close()

    def refuse(self, error: Error) -> None:
        """End the request that is being received with an error."""
        # As Waitress queues a whole request: its error makes the answer.
        with self.requests_lock:
            self.request.close()  # frees the body
            self.request.error, self.request.completed = error, True
            self.requests.append(self.request)
            self.request = None
            if len(self.requests) == 1:
                self.server.add_task(self)
