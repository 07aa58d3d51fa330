"""The deadline of one prediction, with a check of whether its client still waits.

Each stage of a request checks both, so that the request is dropped as soon as it is late or its
client has disconnected.
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
    """`due_s` is a time of `time.monotonic`; `is_wanted()` is False once the client has left."""

    due_s: float = math.inf
    is_wanted: Callable[[], bool] = _always

    @classmethod
    def of(cls, seconds: float, is_wanted: Callable[[], bool] = _always) -> Deadline:
        """Return the deadline that ends `seconds` from now."""
        return cls(time.monotonic() + seconds, is_wanted)

    def left_s(self, grace_s: float = 0.0) -> float | None:
        """Return the seconds left plus `grace_s`, at least 0; None if there is no deadline."""
        if math.isinf(self.due_s):
            return None
        return max(0.0, self.due_s + grace_s - time.monotonic())

    def remaining_s(self) -> float | None:
        """Return the seconds left, None if there is no deadline.

        Raises:
            OverloadedError: no time is left.
            UnwantedError: the client has disconnected.
        """
        # Checked first, because an overload that no client receives must not be counted.
        if not self.is_wanted():
            raise UnwantedError
        left = self.left_s()
        if left == 0:
            raise LateError
        return left

    def result_of(self, future: Future[Result]) -> Result:
        """Return the future's result; cancel it if it is late or its client has left.

        Raises:
            OverloadedError: no time is left; it is a LateError if the work had not begun.
            UnwantedError: the client has disconnected.
        """
        while True:
            left_s = self.left_s()
            try:
                return future.result(LOOK_S if left_s is None else min(LOOK_S, left_s))
            except CancelledError:
                # An overload that no client receives must not be counted.
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
