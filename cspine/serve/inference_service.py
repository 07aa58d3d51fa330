"""The service that turns an admitted request into its answer: fetch, predict or recall, count.

One `InferenceService` serves all threads. It reads the current model once for each request, so that
no answer mixes two models. This module does not import Flask.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from cspine.core.deadline import Deadline, LateError, UnwantedError
from cspine.core.errors import CspineError, FetchError, ImageError
from cspine.core.process import count_cores
from cspine.core.serve_settings import ServeSettings
from cspine.fetch.fetcher import Fetcher
from cspine.predict.answer_cache import MAX_ENTRIES, AnswerCache
from cspine.predict.prediction import Prediction
from cspine.predict.predictor import Predictor
from cspine.predict.thread_pool import Pool
from cspine.serve.admission import Admission
from cspine.serve.errors import FailureStreak, as_fault
from cspine.serve.hot_reload import ModelManager
from cspine.serve.schemas.requests import ImageUrl, PixelArray, Source
from cspine.serve.telemetry import Metrics

LINK_THREADS = 8
IsWanted = Callable[[], bool]
# The limit for one list of images. It is enough for both pictures of 64 images of 1024 × 1024
# pixels.
MAX_PICTURE_BYTES = 128 * 1024 * 1024
NO_ROOM = (
    "The pictures are left out, because those of one request may take at most 128 MiB. Send fewer "
    "images per request."
)


class _Pictures:
    """The number of bytes left for the pictures in the answer to one list of images.

    Pixels compress so well that the size of a request does not limit the size of its pictures.
    """

    def __init__(self) -> None:
        self._left = MAX_PICTURE_BYTES
        self._lock = threading.Lock()

    def keep(self, prediction: Prediction) -> Prediction:
        """Return the prediction, with its pictures only if they fit into the bytes left."""
        with self._lock:
            if prediction.held_bytes <= self._left:
                self._left -= prediction.held_bytes
                return prediction
        warnings = (*prediction.warnings, NO_ROOM)
        return replace(prediction, heatmap=None, grey=None, warnings=warnings)


class InferenceService:
    """The steps between a request and its answer, shared by all threads.

    Args:
        settings: the service's settings.
        models: holds the model that is served.
        fetcher: fetches the images of URLs.
        metrics: counts predictions and times their stages.
        admission: bounds the number of predictions in progress.
    """

    def __init__(
        self,
        settings: ServeSettings,
        models: ModelManager,
        fetcher: Fetcher,
        metrics: Metrics,
        admission: Admission,
    ) -> None:
        self._models = models
        self._fetcher = fetcher
        self._metrics = metrics
        self._deadline_s = settings.deadline_s
        self.admission = admission
        self.failures = FailureStreak()
        self._cache = AnswerCache(MAX_ENTRIES if settings.cache else 0)
        self._batches = Pool(2 * count_cores(), "batch")
        # Lists with URLs have their own threads, because slow servers must not delay lists of
        # uploads. There are few threads, because each may hold a fetched file in memory.
        self._links = Pool(LINK_THREADS, "links")

    def answer(self, source: Source, explain: bool, is_wanted: IsWanted) -> Prediction:
        """Return the prediction for one image.

        Raises:
            OverloadedError: no slot of `admission` is free, or the deadline passed.
            FetchError: a URL could not be fetched.
            ImageError: the image cannot be read.
        """
        with self.admission.place():
            deadline = Deadline.of(self._deadline_s, is_wanted)
            return self._answer_with(self._models.current, source, explain, deadline)

    def answer_all(
        self,
        sources: tuple[Source, ...],
        explain: bool,
        is_wanted: IsWanted,
        predictor: Predictor | None = None,
    ) -> list[Prediction | CspineError]:
        """Return a prediction or an error for each image, in order.

        The list takes one slot of `admission` and has one deadline. With a deadline for each image,
        a few lists of slow URLs would hold all slots for minutes.

        Args:
            sources: the images.
            explain: whether to keep pictures.
            is_wanted: returns whether the client still waits.
            predictor: answers all images of the list; by default the current model.

        Raises:
            OverloadedError: no slot of `admission` is free, or threads that should answer have
                died.
        """
        # One predictor answers the entire list, so that a reload in between cannot mix two models.
        predictor = predictor or self._models.current
        deadline = Deadline.of(self._deadline_s, is_wanted)
        pictures = _Pictures()

        def answer(source: Source) -> Prediction | CspineError:
            try:
                return pictures.keep(self._answer_with(predictor, source, explain, deadline))
            except CspineError as error:
                return error
            except UnwantedError:
                raise  # the client has left, so the list needs no answer
            except Exception as error:
                # A failure of one image must not prevent the answers for the other images.
                return as_fault(error)

        has_links = any(isinstance(source, ImageUrl) for source in sources)
        with self.admission.place():
            return (self._links if has_links else self._batches).map(answer, sources, deadline)

    def _answer_with(
        self, predictor: Predictor, source: Source, explain: bool, deadline: Deadline
    ) -> Prediction:
        start = time.perf_counter()
        deadline.remaining_s()  # earlier images of a list may have used up the time
        if isinstance(source, PixelArray):
            pixels = source.pixels
            # The hash includes the shape, because the same bytes may be a wide or a high picture.
            content = hashlib.sha256(f"pixels {pixels.shape}".encode())
            content.update(pixels.data)

            def compute() -> Prediction:
                return self._watched(lambda: predictor.predict_pixels(pixels, explain, deadline))
        else:
            data = self._fetch(source, deadline) if isinstance(source, ImageUrl) else source.data
            # The fetch may have used up the time, or the client may have left meanwhile.
            deadline.remaining_s()
            # The hash is of the content, not of the URL, because a URL may return another image the
            # next time.
            content = hashlib.sha256(data)

            def compute() -> Prediction:
                return self._watched(lambda: predictor.predict(data, explain, deadline))

        # The key includes `explain`, because an answer cached without pictures has none to show.
        # It also includes the kind of source, because a file may hold the very bytes that are
        # hashed for pixels above.
        key = (predictor.serial, explain, isinstance(source, PixelArray), content.digest())
        prediction = self._cache.get_or_compute(key, compute, deadline)
        self._metrics.observe("total", time.perf_counter() - start)
        self._metrics.count_decision(prediction)
        return prediction

    def _watched(self, compute: Callable[[], Prediction]) -> Prediction:
        """Compute a prediction, and record its success or failure in `failures`.

        A failure is recorded only if it may be due to the service. A success is recorded only if
        the network was run.
        """
        try:
            prediction = compute()
        except (ImageError, UnwantedError, LateError):
            raise  # none of these errors is a sign of the model's state
        except Exception:
            self.failures.add()
            raise
        # If there is no probability, the network was not run.
        if prediction.probability is not None:
            self.failures.end()
        return prediction

    def _fetch(self, link: ImageUrl, deadline: Deadline) -> bytes:
        start = time.perf_counter()
        try:
            data = self._fetcher.fetch(link.url, deadline.remaining_s())
        except FetchError:
            # A fetch error that no client receives would only distort the counts.
            if not deadline.is_wanted():
                raise UnwantedError from None
            raise
        finally:
            # Failed fetches are timed too, or time-outs, the longest of all, would not be seen.
            self._metrics.observe("fetch", time.perf_counter() - start)
        return data
