"""The deadline of one prediction, and whether its caller still waits for it.

Each stage of a request checks both, so that work that is late, or whose client has disconnected, is
dropped before it costs more.
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

# Seconds between two checks of whether the client is still connected.
LOOK_S = 0.25
LATE = "The prediction did not end within its deadline. Try again."


class UnwantedError(Exception):
    """The client has disconnected; no answer is sent."""


class LateError(OverloadedError):
    """The deadline passed while the image was queued: a sign of load, not of a failing network."""

    def __init__(self) -> None:
        super().__init__(LATE)


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Deadline:
    """`due_s` is on the clock of `time.monotonic`; `is_wanted` is False once the client left."""

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
            UnwantedError: the client has disconnected.
        """
        # Checked first: an overload that no client receives must not be counted.
        if not self.is_wanted():
            raise UnwantedError
        left = self.left_s()
        if left == 0:
            raise LateError
        return left

    def result_of(self, future: Future[Result]) -> Result:
        """Return the future's result; a future that is late or unwanted is cancelled.

        Raises:
            OverloadedError: no time is left; a LateError if the work was not begun.
            UnwantedError: the client has disconnected.
        """
        while True:
            left_s = self.left_s()
            try:
                return future.result(LOOK_S if left_s is None else min(LOOK_S, left_s))
            except CancelledError:
                # As above: an overload that no client receives must not be counted.
                raise (LateError if self.is_wanted() else UnwantedError) from None
            except FutureTimeoutError:
                if not self.is_wanted():
                    future.cancel()
                    raise UnwantedError from None
                if left_s is None or left_s > LOOK_S:
                    continue
                if future.cancel():
                    raise LateError from None
                # Not a LateError: a network that hangs must count as failing, not as load.
                raise OverloadedError(LATE) from None
