"""Remember answers by image content, and compute identical images in flight once.

Bounded by entries and by the bytes of pixels that remembered answers hold. The caller's key names
the loaded model too, so that a new model never returns an old one's answer.
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
# Only explained answers hold pixels: about a hundred of 512 × 512 fit.
MAX_BYTES = 64 * 1024 * 1024


class AnswerCache:
    """A bounded cache of predictions; the least recently used ones are dropped first.

    Args:
        max_entries: predictions kept; 0 keeps none, but still joins computations in flight.
        max_bytes: bytes of pixels kept with them.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        # Held for dictionary operations, never during inference.
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Prediction] = OrderedDict()
        self._bytes = 0
        self._in_flight: dict[Hashable, Future[Prediction]] = {}

    def get_or_compute(
        self, key: Hashable, compute: Callable[[], Prediction], deadline: Deadline
    ) -> Prediction:
        """Return the prediction of `key`: remembered, shared with one in flight, or computed.

        Args:
            key: the model, the image's content and all else on which the prediction depends.
            compute: returns the prediction.
            deadline: bounds the wait for a computation in flight.

        Raises:
            CspineError: `compute` raised it; only an ImageError is shared with the other callers.
        """
        # Again if the caller that computed gave up: then the first of the others computes.
        while True:
            with self._lock:
                kept = self._kept.get(key)
                if kept is not None:
                    # Used just now, so dropped last.
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
        """Compute for all callers that wait on `flight`."""
        try:
            prediction = compute()
        # Of any kind: callers that wait must learn of it, or they would wait for ever.
        except BaseException as error:
            # Removed before they learn of it: a caller that comes now must compute anew.
            self._land(key)
            # An unreadable image is unreadable for all; a missed deadline is this caller's alone.
            flight.set_exception(error if isinstance(error, ImageError) else _NotSharedError())
            raise
        self._land(key, prediction)
        flight.set_result(prediction)
        return prediction

    def _land(self, key: Hashable, prediction: Prediction | None = None) -> None:
        """End the flight of `key`, and remember `prediction` if there is one."""
        with self._lock:
            del self._in_flight[key]
            if prediction is None or self._max_entries == 0:
                return
            # A key in flight is never remembered too, so its bytes are counted once.
            self._kept[key] = prediction
            self._bytes += prediction.held_bytes
            while len(self._kept) > self._max_entries or self._bytes > self._max_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].held_bytes


class _NotSharedError(CspineError):
    """The caller that computed failed for its own reasons; the others compute themselves."""


def _join(flight: Future[Prediction], deadline: Deadline) -> Prediction | None:
    """Wait for another caller's computation; None if that failed for its own reasons."""
    try:
        return flight.result(deadline.remaining_s())
    except _NotSharedError:
        return None
    except FutureTimeoutError:
        raise LateError from None
