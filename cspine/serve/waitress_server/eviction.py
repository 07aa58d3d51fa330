"""Evict connections that miss a deadline, that lag, or whose bodies take too much memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from cspine.serve.waitress_server.connection import DeadlineChannel
from cspine.serve.waitress_server.early_refusal import BodiesFullError

# Which connections may be closed for a new one: the part of the request → by how many seconds the
# client must lag. Parts are searched in this order. An honest client sends its header at once and
# its body without a pause.
YIELD_AFTER_S = {"idle": 0.1, "header": 0.1, "body": 2.0, "answer": 2.0}
# The limit of all bodies together, until their requests are answered. It is enough for eleven
# bodies of the largest size that is accepted.
MAX_HELD_BYTES = 512 * 1024 * 1024
_LOOK_S = 1.0  # between two checks of the deadlines


@dataclass(frozen=True)
class Deadlines:
    """The longest time for each part of a request, in seconds from its first byte to its last."""

    header_s: float = 10.0
    body_s: float = 60.0
    work_s: float = 40.0  # from the request's last byte to the first byte of its answer
    answer_s: float = 60.0
    idle_s: float = 60.0


class Sockets(dict[int, Any]):
    """All sockets of an event loop by file descriptor: connections, listeners and their triggers.

    Args:
        deadlines: the deadlines that apply to every connection.
        places: how many sockets there may be before a waiting connection is closed.
    """

    new_bytes = 0  # received since the bodies were last counted
    _held_bytes = 0
    _next_look_s = 0.0

    def __init__(self, deadlines: Deadlines, places: int) -> None:
        super().__init__()
        self._deadlines, self.places = deadlines, places

    @property
    def channels(self) -> list[DeadlineChannel]:
        """Return the connections of all listeners."""
        return [one for one in list(self.values()) if isinstance(one, DeadlineChannel)]

    @property
    def held_bytes(self) -> int:
        """Return the bytes of all bodies that are being received or processed."""
        return sum(channel.held_bytes for channel in self.channels)

    @property
    def is_busy(self) -> bool:
        """Return whether a request is being processed or an answer is still being sent."""
        return any(channel.current_part() in ("work", "answer") for channel in self.channels)

    def enforce_limits(self) -> None:
        """Close connections that are over a limit, and refuse bodies that take too much memory.

        Call this between two iterations of the loop. Within an iteration, a new connection may get
        the file descriptor of a connection that was just closed, and would receive an event that
        was meant for the closed connection.
        """
        now_s = time.monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_S
            self._close_late(now_s)
        while len(self) > self.places and (channel := self._find_yielding(now_s)):
            channel.handle_close()
        # A count visits all connections, so bytes are counted only if the limit may be exceeded.
        if self._held_bytes + self.new_bytes > MAX_HELD_BYTES:
            self._bound_bodies(now_s)

    def _close_late(self, now_s: float) -> None:
        for channel in self.channels:
            limit_s = getattr(self._deadlines, f"{channel.current_part()}_s")
            if channel.elapsed_s(now_s) > limit_s:
                channel.handle_close()

    def _find_yielding(self, now_s: float) -> DeadlineChannel | None:
        """Return the connection to close for a new one, or None.

        The first part of YIELD_AFTER_S in which a client lags enough is used. Of the connections in
        this part, the one that lags most is returned.
        """
        channels = self.channels
        for part, limit_s in YIELD_AFTER_S.items():
            waiting = [one for one in channels if one.current_part() == part]
            slowest = max(waiting, key=lambda one: one.lag_s(now_s), default=None)
            if slowest and slowest.lag_s(now_s) >= limit_s:
                return slowest
        return None

    def _bound_bodies(self, now_s: float) -> None:
        """Refuse bodies that are being received, slowest first, until the rest is within limits."""
        self.new_bytes = 0
        while (held_bytes := self.held_bytes) > MAX_HELD_BYTES:
            receiving = [one for one in self.channels if one.receives_body]
            if not receiving:
                break
            max(receiving, key=lambda one: one.lag_s(now_s)).refuse(BodiesFullError())
        self._held_bytes = held_bytes
