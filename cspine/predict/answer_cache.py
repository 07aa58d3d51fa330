"""Answers by image content: what is in flight is computed once, what is done is remembered.

Bounded by entries and by the bytes of pixels that remembered answers hold. Knows nothing of images:
the key is the caller's, and names the model that was loaded, so a new one never answers from an old
one's memory.
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
# Only explained answers hold pixels: a hundred or so of 512 × 512 fit.
MAX_BYTES = 64 * 1024 * 1024


class AnswerCache:
    """A bounded memory of predictions, least recently used ones forgotten first.

    Args:
        max_entries: predictions kept; 0 keeps none, but still joins what is in flight.
        max_bytes: pixels kept with them.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        # Held for a dictionary's time, never during inference.
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Prediction] = OrderedDict()
        self._bytes = 0
        self._in_flight: dict[Hashable, Future[Prediction]] = {}

    def get_or_compute(
        self, key: Hashable, compute: Callable[[], Prediction], deadline: Deadline
    ) -> Prediction:
        """Return the prediction of `key`: remembered, shared with one in flight, or computed.

        Raises:
            CspineError: what `compute` raised; only an ImageError is shared with those who waited.
        """
        # Round again where the one who computed gave up: whoever is first then computes.
        while True:
            with self._lock:
                kept = self._kept.get(key)
                if kept is not None:
                    # Used just now, so forgotten last.
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
        """Compute for all who wait on `flight`."""
        try:
            prediction = compute()
        # Whatever it was, those who wait must be told, or they would wait for ever.
        except BaseException as error:
            # Off the list before they are told: whoever comes now must start anew.
            self._land(key)
            # An unreadable image is unreadable for all; a missed deadline was this caller's alone.
            flight.set_exception(error if isinstance(error, ImageError) else _NotSharedError())
            raise
        self._land(key, prediction)
        flight.set_result(prediction)
        return prediction

    def _land(self, key: Hashable, prediction: Prediction | None = None) -> None:
        """End the flight of `key`, and remember `prediction` where there is one."""
        with self._lock:
            del self._in_flight[key]
            if prediction is None or self._max_entries == 0:
                return
            # A key in flight is never in memory too, so its bytes are counted once.
            self._kept[key] = prediction
            self._bytes += prediction.held_bytes
            while len(self._kept) > self._max_entries or self._bytes > self._max_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].held_bytes


class _NotSharedError(CspineError):
    """The one who computed gave up for reasons of its own; those who waited try themselves."""


def _join(flight: Future[Prediction], deadline: Deadline) -> Prediction | None:
    """Wait for another's computation; None where it gave up for reasons of its own."""
    try:
        return flight.result(deadline.remaining_s())
    except _NotSharedError:
        return None
    except FutureTimeoutError:
        raise LateError from None
