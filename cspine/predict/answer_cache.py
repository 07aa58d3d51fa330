"""A cache of answers by image content; requests for the same image at once share one computation.

The cache is bounded by the number of answers and by the bytes of pixels that they hold. The
caller's key includes the loaded model, so that a new model never returns an old model's answer.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from cspine.core.deadline import Deadline, LateError
from cspine.core.errors import CspineError, ImageError
from cspine.predict.prediction import Prediction

MAX_ENTRIES = 4096
# Only explained answers hold pixels; about a hundred of 512 × 512 pixels fit.
MAX_BYTES = 64 * 1024 * 1024


class AnswerCache:
    """A bounded cache of predictions; the least recently used ones are dropped first.

    Args:
        max_entries: predictions kept; 0 keeps none, but still joins computations in flight.
        max_bytes: bytes of pixels that the kept predictions may hold.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        # The lock is held only for dictionary operations, never during inference.
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Prediction] = OrderedDict()
        self._bytes = 0
        self._in_flight: dict[Hashable, Future[Prediction]] = {}

    def get_or_compute(
        self, key: Hashable, compute: Callable[[], Prediction], deadline: Deadline
    ) -> Prediction:
        """Return the prediction of `key` from the cache, a running computation or a new one.

        Args:
            key: the model, the image's content and everything else that affects the prediction.
            compute: returns the prediction.
            deadline: bounds the wait for another caller's computation.

        Raises:
            CspineError: `compute` raised it; only an ImageError is shared with the other callers.
        """
        # Repeated if the computing caller failed: then the first of the waiting callers computes.
        while True:
            with self._lock:
                kept = self._kept.get(key)
                if kept is not None:
                    # Moved to the end, since the entries at the start are dropped first.
                    self._kept.move_to_end(key)
                    return kept
                flight = self._in_flight.get(key)
                if flight is None:
                    flight = self._in_flight[key] = Future()
                    break
            shared = _join(flight, deadline)
            if shared is not None:
                return shared
        return self._lead(key, flight, compute)

    def _lead(
        self, key: Hashable, flight: Future[Prediction], compute: Callable[[], Prediction]
    ) -> Prediction:
        """Compute the prediction for this caller and for all that wait on `flight`."""
        try:
            prediction = compute()
        # Any error must reach the waiting callers, or they would wait for ever.
        except BaseException as error:
            # Removed from `_in_flight` first, so that no new caller joins a failed computation.
            self._land(key)
            # An unreadable image is unreadable for all callers; a missed deadline is not shared.
            flight.set_exception(error if isinstance(error, ImageError) else _NotSharedError())
            raise
        self._land(key, prediction)
        flight.set_result(prediction)
        return prediction

    def _land(self, key: Hashable, prediction: Prediction | None = None) -> None:
        """Remove `key` from the computations in flight, and keep `prediction` if there is one."""
        with self._lock:
            del self._in_flight[key]
            if prediction is None or self._max_entries == 0:
                return
            # A key in flight is never in `_kept` as well, so its bytes are counted only once.
            self._kept[key] = prediction
            self._bytes += prediction.held_bytes
            while len(self._kept) > self._max_entries or self._bytes > self._max_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].held_bytes


class _NotSharedError(CspineError):
    """The computing caller failed for a reason of its own, so the waiting ones must compute."""


def _join(flight: Future[Prediction], deadline: Deadline) -> Prediction | None:
    """Return the result of another caller's computation; None for a `_NotSharedError`."""
    try:
        return flight.result(deadline.remaining_s())
    except _NotSharedError:
        return None
    except FutureTimeoutError:
        raise LateError from None
