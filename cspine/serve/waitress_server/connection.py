"""A Waitress connection that measures how long the client takes for each part of a request."""

from __future__ import annotations

import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.utilities import Error

from cspine.serve.waitress_server.early_refusal import ProblemTask
from cspine.serve.waitress_server.parser import RequestParser

# The least pace at which a client must send a body or read an answer. A slower client may lose its
# connection.
PACE_BYTES_S = 1024.0
# How many requests may wait on one connection. One read may hold a thousand requests, and answers
# that the client does not read would block a thread for each connection.
MAX_QUEUED = 8


class DeadlineChannel(HTTPChannel):
    """A connection with two clocks for the current part of a request.

    One clock measures how long the part has lasted, the other how far the client lags behind
    PACE_BYTES_S. The parts are `idle`, `header`, `body`, `work` (the service has the request) and
    `answer`.
    """

    error_task_class = ProblemTask
    parser_class = RequestParser
    request: Any  # the parser of the request that is being received, or None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.begin("idle")

    def begin(self, part: str) -> None:
        """Start both clocks for a new part."""
        self._part = part
        # A client with a pace of exactly PACE_BYTES_S would have moved as many bytes as this client
        # at the time `_paced_s`.
        self._since_s = self._paced_s = time.monotonic()

    def current_part(self) -> str:
        """Return the current part, and start both clocks if the part is new."""
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
        """Return for how many seconds the current part has lasted."""
        return now_s - self._since_s

    def lag_s(self, now_s: float) -> float:
        """Return how many seconds the client is behind the least pace."""
        return now_s - self._paced_s

    def _count(self, moved_bytes: int) -> None:
        # `_paced_s` never passes the present, so that fast bytes do not allow a later pause.
        self._paced_s = min(time.monotonic(), self._paced_s + moved_bytes / PACE_BYTES_S)

    @property
    def receives_body(self) -> bool:
        """Return whether a body is being received, even if earlier requests still wait."""
        return self.request is not None and self.request.headers_finished

    @property
    def held_bytes(self) -> int:
        """Return the bytes of bodies that are being received or processed."""
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
        self.current_part()  # starts the clocks of a new part at its first byte
        return taken

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Send a part of the answer; return how many bytes the system took."""
        sent = int(super().send(data, do_close))
        self._count(sent)
        return sent

    def send_continue(self) -> None:
        """Tell the client to send the body, except if the request is complete or refused.

        In these two cases Waitress would wait for a body that never comes.
        """
        if self.request.completed:
            self.request.expect_continue = False
        else:
            super().send_continue()

    def handle_expt(self) -> None:
        """Close the connection that received TCP urgent data.

        HTTP has no urgent data, and one urgent byte would wake the loop for ever.
        """
        self.handle_close()

    def refuse(self, error: Error) -> None:
        """Stop receiving the current request, and answer it with `error`."""
        # The request is queued in the way in which Waitress queues a complete request, so that
        # Waitress answers it with its error.
        with self.requests_lock:
            self.request.close()  # frees the body
            self.request.error, self.request.completed = error, True
            self.requests.append(self.request)
            self.request = None
            if len(self.requests) == 1:
                self.server.add_task(self)
