"""One connection of Waitress's that knows since when it waits for what, and takes in little.

It bounds what one client can have the loop do; which connection must go is `listener.py`'s to say.
Knows no view.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel

from cspine.serve.waitress_server.early_refusal import OVERLOADED, BodiesFullError, ProblemTask
from cspine.serve.waitress_server.parser import PIECE_BYTES, BoundedParser, DroppingParser

# Requests that may wait for their turn on one connection. One read may hold ten thousand.
MAX_QUEUED = 8


class DeadlineChannel(HTTPChannel):
    """One connection that knows since when it waits for what."""

    error_task_class = ProblemTask
    request: Any  # what is being received: a BoundedParser, or None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._part: str = "idle"
        self._part_since_s = self.last_byte_s = self.queued_s = time.monotonic()
        self._receiver: int | None = None  # the loop's thread, while it takes bytes
        self._must_refuse = False

    def parser_class(self, adjustments: Adjustments) -> BoundedParser:
        """Return a parser for the next request; where too many wait, one that drops what comes."""
        few = len(self.requests) < MAX_QUEUED
        return BoundedParser(adjustments) if few else DroppingParser(adjustments)

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

    def handle_expt(self) -> None:
        """Close the connection: HTTP has no urgent bytes, and the loop would wake for it for ever.

        As above the event may be another's, so that the byte must be there.
        """
        with suppress(OSError):
            self.socket.recv(1, socket.MSG_OOB | socket.MSG_PEEK)
            self.handle_close()

    def received(self, data: bytes) -> bool:
        """Take bytes from the client, and refuse what must be as soon as it is known."""
        self._receiver = threading.get_ident()
        try:
            return self._take(data)
        finally:
            self._receiver = None
            # Waitress's lock is free again, so this thread may answer.
            if self._must_refuse:
                self._must_refuse = False
                with self.server.awake():
                    self.service()

    def refuse_at_once(self) -> bool:
        """Have the loop refuse the first request; return False where a thread must."""
        # Nor while an answer still waits to be read: of a large one this thread would wait for the
        # end, and it alone could send it. No other writes here while no request is in work.
        if self._receiver != threading.get_ident() or self.total_outbufs_len:
            return False
        self._must_refuse = True
        return True

    def _take(self, data: bytes) -> bool:
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
            if isinstance(self.request, DroppingParser):
                break
        if self.request is not None and self.request is not before:
            # From its first byte on, not from the next look at the clocks.
            self._enter("header")
        if self.server.is_overfull(len(data)) and self.request is not None:
            self._refuse()
        return taken

    def send_continue(self) -> None:
        """Ask for the body, unless the request is whole or refused: Waitress would wait."""
        if self.request.completed:
            self.request.expect_continue = False
        else:
            super().send_continue()

    def write_soon(self, data: Any) -> int:
        """Take a part of the answer; its way out begins now, unless an earlier part still waits."""
        if not self.total_outbufs_len:
            self.last_byte_s = time.monotonic()
        return int(super().write_soon(data))

    def _flush_some(self, do_close: bool = True) -> bool:
        sent = bool(super()._flush_some(do_close=do_close))
        if sent:
            self.last_byte_s = time.monotonic()
        return sent

    def service(self) -> None:
        """Answer one request; where not even a refusal could be made, end the connection."""
        if len(self.requests) == 1 and isinstance(self.request, DroppingParser):
            self.requests[0].headers["CONNECTION"] = "close"  # what followed it is dropped
        try:
            super().service()
        except BaseException:
            # Waitress logs it, and would leave the client waiting. The loop closes.
            self.will_close = True
            raise

    @property
    def held_bytes(self) -> int:
        """Return the bytes of bodies that are on their way or being worked on."""
        parsers = (*self.requests, self.request)
        return sum(one.body_bytes_received for one in parsers if one is not None)

    def _refuse(self) -> None:
        """End the request that is being received: there is no room for its body now."""
        # As Waitress queues a request that is whole: its error makes the answer.
        with self.requests_lock:
            self.request.error = BodiesFullError(OVERLOADED)
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
        """Return for how many seconds nothing came or went, nor was anything else waited for."""
        return now_s - max(self.last_byte_s, self._part_since_s)

    def waiting_s(self, now_s: float) -> tuple[str, float]:
        """Return what the connection waits for and since how many seconds."""
        self._enter(self.waits_for())
        # Of several requests each has its own time.
        since_s = max(self._part_since_s, self.queued_s if self._part == "work" else 0.0)
        return self._part, now_s - since_s
