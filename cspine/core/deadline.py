"""The deadline of one prediction, and whether its caller still waits for it.

A request asks at each stage, so that late work and work for a client that has left is dropped
before it costs more. `is_wanted` is whatever the caller says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import TypeVar

from cspine.core.errors import OverloadedError

Result = TypeVar("Result")

# How often who waits looks whether anybody waits for the answer.
LOOK_S = 0.25
LATE = "The prediction did not end within its deadline. Try again."


class UnwantedError(Exception):
    """Nobody waits for the answer any more; there is no one to tell."""


class LateError(OverloadedError):
    """The deadline ran out while the image waited for its turn: much work, and no sign that the
    network fails."""

    def __init__(self) -> None:
        super().__init__(LATE)


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Deadline:
    """`due_s` is on the clock of `time.monotonic`; `is_wanted` tells of a vanished client."""

    due_s: float = math.inf
    is_wanted: Callable[[], bool] = _always

    @classmethod
    def of(cls, seconds: float, is_wanted: Callable[[], bool] = _always) -> Deadline:
        """Return the deadline that ends `seconds` from now."""
        return cls(time.monotonic() + seconds, is_wanted)

    def left_s(self, grace_s: float = 0.0) -> float | None:
        """Return the seconds left and `grace_s` more, at least 0; None for no end."""
        if math.isinf(self.due_s):
            return None
        return max(0.0, self.due_s + grace_s - time.monotonic())

    def remaining_s(self) -> float | None:
        """Return the seconds left, None for no end.

        Raises:
            OverloadedError: none are left.
            UnwantedError: nobody waits any more.
        """
        # First whether anybody waits: an overload told to nobody would only spoil the counts.
        if not self.is_wanted():
            raise UnwantedError
        left = self.left_s()
        if left == 0:
            raise LateError
        return left

    def result_of(self, future: Future[Result]) -> Result:
        """Return the future's result, or give up on it: what has not begun then never does.

        Raises:
            OverloadedError: no time is left; a LateError where the work had not begun, or will
                not, since it would be late.
            UnwantedError: nobody waits any more.
        """
        while True:
            left_s = self.left_s()
            try:
                return future.result(LOOK_S if left_s is None else min(LOOK_S, left_s))
            except CancelledError:
                # As above: an overload told to nobody would only spoil the counts.
                raise (LateError if self.is_wanted() else UnwantedError) from None
            except FutureTimeoutError:
                if not self.is_wanted():
                    future.cancel()
                    raise UnwantedError from None
                if left_s is None or left_s > LOOK_S:
                    continue
                if future.cancel():
                    raise LateError from None
                # Not a LateError: a network that hangs is late each time, and must be seen to be.
                raise OverloadedError(LATE) from None
