"""Evict connections that wait too long or take too much: deadlines, places and bytes of bodies."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from cspine.serve.waitress_server.connection import DeadlineChannel
from cspine.serve.waitress_server.early_refusal import BodiesFullError

# Connections that may lose their place to a new one: by part, in this order, and by the seconds
# that the client must lag. An honest one sends its header at once, and a body without a pause.
YIELD_AFTER_S = {"idle": 0.1, "header": 0.1, "body": 2.0, "answer": 2.0}
# Of all bodies until their requests are answered: eleven of the largest that are accepted.
MAX_HELD_BYTES = 512 * 1024 * 1024
_LOOK_S = 1.0  # between two looks at the deadlines


@dataclass(frozen=True)
class Deadlines:
    """Seconds for each part of a request, from its first byte to its last."""

    header_s: float = 10.0
    body_s: float = 60.0
    work_s: float = 40.0  # from the request's last byte to the first byte of its answer
    answer_s: float = 60.0
    idle_s: float = 60.0


class Sockets(dict[int, Any]):
    """All sockets of one loop by file descriptor: connections, listeners and their triggers.

    Args:
        deadlines: of every connection.
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
        """Return the bytes of all bodies that are on their way or being worked on."""
        return sum(channel.held_bytes for channel in self.channels)

    @property
    def is_busy(self) -> bool:
        """Return whether a request is being worked on or its answer still on its way."""
        return any(channel.current_part() in ("work", "answer") for channel in self.channels)

    def enforce_limits(self) -> None:
        """Close or refuse what is over a limit.

        To be called between two turns of the loop: a connection that is taken within one may get
        the descriptor of one just closed, and with it an event that was meant for the other.
        """
        now_s = time.monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_S
            self._close_late(now_s)
        while len(self) > self.places and (channel := self._find_yielding(now_s)):
            channel.handle_close()
        # Counted anew only where it may be too much: each count is a walk over all connections.
        if self._held_bytes + self.new_bytes > MAX_HELD_BYTES:
            self._bound_bodies(now_s)

    def _close_late(self, now_s: float) -> None:
        for channel in self.channels:
            limit_s = getattr(self._deadlines, f"{channel.current_part()}_s")
            if channel.elapsed_s(now_s) > limit_s:
                channel.handle_close()

    def _find_yielding(self, now_s: float) -> DeadlineChannel | None:
        """Return the connection that lags most, of the first part in which one may yield."""
        channels = self.channels
        for part, limit_s in YIELD_AFTER_S.items():
            waiting = [one for one in channels if one.current_part() == part]
            slowest = max(waiting, key=lambda one: one.lag_s(now_s), default=None)
            if slowest and slowest.lag_s(now_s) >= limit_s:
                return slowest
        return None

    def _bound_bodies(self, now_s: float) -> None:
        """Refuse bodies on their way, the slowest first, until the rest is not too much."""
        self.new_bytes = 0
        while (held_bytes := self.held_bytes) > MAX_HELD_BYTES:
            receiving = [one for one in self.channels if one.receives_body]
            if not receiving:
                break
            max(receiving, key=lambda one: one.lag_s(now_s)).refuse(BodiesFullError())
        self._held_bytes = held_bytes
