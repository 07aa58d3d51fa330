"""The engine: inference with OpenVINO on the CPU, by asynchronous requests and without Keras.

Each image is one request of batch 1. There are as many streams as cores, which on a CPU is faster
than batches. A single image can use all cores. A finished request's callback starts the next image
at once, so no thread waits and no lock is held during inference.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections import deque

import numpy as np
import openvino as ov

from cspine.core.errors import ArtifactError, ConfigError, OverloadedError
from cspine.core.process import count_cores
from cspine.model.engine.compiled import check_network, compile_network, computed_in
from cspine.model.engine.network_files import PRECISIONS, find_int8, find_or_build_ir
from cspine.model.engine.pending_output import EngineOutput, PendingOutput
from cspine.model.engine.request_queue import RequestQueue, Waiting, as_input
from cspine.model.engine.resource_release import Resources, release_with, weak_callback
from cspine.model.export.ir import MappedNetwork
from cspine.model.store.registry import ModelFiles

logger = logging.getLogger(__name__)

# Below this time per image (the least of some runs) more threads would only reduce throughput.
ALONE_FROM_S, TIMED = 0.005, 5


class Engine:
    """A compiled network with its pool of requests. Safe to use from any thread.

    `precision` is the requested precision and `precision_used` the one that the CPU computes in:
    bf16 needs AVX-512 or newer, and without it OpenVINO uses f32. In an int8 network some layers
    run in f32.
    """

    def __init__(
        self,
        network: ov.Model,
        precision: str,
        streams: int | None = None,
        weights: MappedNetwork | None = None,
    ) -> None:
        """Compile `network` (u8 pixels (1, S, S, 3) in, named outputs) and warm it.

        `streams` is the number of images computed at a time, by default the number of cores;
        `weights` is the mapped file that the network points into without holding a reference.

        Raises:
            ArtifactError: the network has other inputs or outputs, or OpenVINO cannot compile it.
        """
        self.precision = precision
        self.streams = streams or count_cores()
        self._queue = RequestQueue()
        # One more than streams: a pause of the machine spoils one time per stream, not all.
        self._took_s: deque[float] = deque(maxlen=self.streams + 1)
        self._idle: deque[ov.InferRequest] = deque()  # each request uses one stream
        self._alone: deque[ov.InferRequest] = deque()  # a request that uses all cores, if any
        self._of_alone: frozenset[int] = frozenset()
        self._running: dict[int, tuple[ov.InferRequest, PendingOutput]] = {}
        # Held while images are assigned to requests and started, never during an inference.
        self._bookkeeping = threading.Lock()
        self._resources = Resources()
        release_with(self, self._resources)
        self._resources.network.append(weights)
        check_network(network)
        compiled = compile_network(network, precision, self.streams)
        self._resources.network.append(compiled)
        self.precision_used = computed_in(compiled, precision)
        self.image_size = int(network.inputs[0].shape[1])
        self.embedding_units = int(network.output("embedding").partial_shape[1].get_length())
        self._outputs = sorted(name for port in network.outputs for name in port.get_names())
        for _ in range(self.streams):
            self._idle.append(self._add_request(compiled))
        self._network, self._mapped = network, weights
        # Every request runs once, so that all memory is touched before the engine is ready.
        self.infer(np.zeros((self.streams, self.image_size, self.image_size), np.uint8))

    @classmethod
    def load(cls, files: ModelFiles, precision: str = "f32", streams: int | None = None) -> Engine:
        """Return a warmed engine for one version's files; its first answer is as fast as any other.

        f32 and bf16 use `best.xml` if the card lists its hash, else a network made from the `.h5`
        now. int8 uses `best_int8.xml` if it was made from this `.h5` and the card lists its hash;
        else there is one warning and f32 is used.

        Raises:
            ConfigError: `precision` is not f32, bf16 or int8.
            ArtifactError: the `.h5` cannot be turned into a network.
        """
        if precision not in PRECISIONS:
            raise ConfigError(
                f"`precision` must be {' or '.join(PRECISIONS)}. Received: {precision!r}"
            )
        if precision == "int8":
            quantised = find_int8(files)
            if quantised is not None:
                return cls.of_mapped(quantised, "int8", streams)
            logger.warning("best_int8.xml is missing or of another model; using f32 instead")
            precision = "f32"
        return cls.of_mapped(find_or_build_ir(files), precision, streams)

    @classmethod
    def of_mapped(cls, mapped: MappedNetwork, precision: str, streams: int | None) -> Engine:
        """Return the engine of a mapped network; it keeps the mapping but frees its memory."""
        engine = cls(mapped.network, precision, streams, mapped)
        mapped.drop_pages()
        return engine

    def submit(
        self, image: np.ndarray, alone: bool = False, due_s: float = math.inf
    ) -> PendingOutput:
        """Queue one image, uint8 (S, S) grey or (S, S, 3); the future gives its EngineOutput.

        An image submitted as `alone` may use all cores; see `compile_low_latency`. If other images
        wait, an image that would not be done by `due_s`, on `time.monotonic`'s clock, is cancelled.

        An image whose future is cancelled before it starts is not computed. Callbacks of the future
        run on an engine thread and must be short.

        Raises:
            ValueError: the image has another shape or type.
        """
        pixels = as_input(image, self.image_size)
        self._recover_failed()
        future = PendingOutput(self)
        self._queue.add(Waiting(pixels, future, alone, due_s))
        self._start_waiting()
        return future

    def infer(self, images: np.ndarray) -> EngineOutput:
        """Return outputs of images uint8 (N, S, S, 3) or (N, S, S), N ≥ 1, using all streams.

        Raises:
            ValueError: the images have another shape or type.
        """
        if len(images) == 0:
            raise ValueError("`images` must hold at least one image. Received: 0")
        futures = [self.submit(image) for image in images]
        return EngineOutput.join([future.result() for future in futures])

    def compile_low_latency(self) -> None:
        """Let an image that is submitted as `alone` use all cores, from the end of this call on.

        This compiles the network a second time, apart, so that an engine is ready sooner; it does
        nothing if there is one stream or the network is small. Not for two threads at once.

        Raises:
            ArtifactError: OpenVINO cannot compile the network, or its files were changed meanwhile.
        """
        if self.streams == 1 or self._of_alone:
            return
        pixels = as_input(np.full((self.image_size,) * 2, 128, np.uint8), self.image_size)
        expected, image_s = self._time_image(pixels[0])
        if image_s < ALONE_FROM_S:
            return
        try:
            compiled = compile_network(self._network, self.precision, 1)
        finally:
            if self._mapped is not None:
                self._mapped.drop_pages()
        self._resources.network.append(compiled)
        request = self._add_request(compiled)
        if self._resources.is_over.is_set():
            return  # the process ends
        # This request has no pending answer, so its callback does nothing.
        request.start_async({0: pixels}, userdata=id(request))
        request.wait()
        # The weights were read from the file again, after their hash was compared.
        if not np.allclose(request.get_tensor("cam").data, expected.cam, rtol=1e-2, atol=1e-2):
            raise ArtifactError("`best.bin` must not change while served. Received: a changed file")
        self._of_alone = frozenset((id(request),))
        self._alone.append(request)

    def busy_s(self) -> float:
        """Return for how many seconds the oldest running inference has run; 0 if none runs."""
        self._recover_failed()
        self._start_waiting()
        running = list(self._running.values())
        began = [answer.started_s for _, answer in running if answer.started_s is not None]
        return time.perf_counter() - min(began) if began else 0.0

    def _add_request(self, compiled: ov.CompiledModel) -> ov.InferRequest:
        """Create a request of a compiled network, which is released with the engine."""
        request, callback = compiled.create_infer_request(), weak_callback(self._finish)
        request.set_callback(callback, None)
        self._resources.callbacks.append(weakref.ref(callback))
        self._resources.requests.append(request)
        return request

    def _start_waiting(self) -> None:
        """Start waiting images on idle requests, until there are no more of either."""
        while True:
            failed = None
            with self._bookkeeping:
                late = self._queue.drop_late(min(self._took_s, default=0.0))
                request = None if self._resources.is_over.is_set() else self._take_idle()
                if request is not None:
                    failed = self._start(request, self._queue.take())
            # The lock is released here, because a callback of an answer may submit an image.
            for answer in late:
                answer.cancel()
            if failed is not None:
                answer, error = failed
                answer.set_exception(error)
            if request is None:
                return

    def _take_idle(self) -> ov.InferRequest | None:
        """Take an idle request for the next image; None if no request is idle or no image waits."""
        if not self._queue:
            return None
        is_alone = self._queue.first.alone and not self._running
        idle = self._alone if is_alone and self._alone else self._idle
        return idle.popleft() if idle else None

    def _put_back(self, request: ov.InferRequest) -> None:
        (self._alone if id(request) in self._of_alone else self._idle).append(request)

    def _start(
        self, request: ov.InferRequest, one: Waiting
    ) -> tuple[PendingOutput, Exception] | None:
        """Start one inference; if it does not start, return its answer and the error."""
        if not one.answer.set_running_or_notify_cancel():
            self._put_back(request)
            return None
        self._running[id(request)] = (request, one.answer)
        try:
            # The user data is a number, since a request that refers to itself is never freed.
            request.start_async({0: one.pixels}, userdata=id(request), share_inputs=True)
        except Exception as error:
            self._running.pop(id(request), None)
            self._put_back(request)
            return one.answer, error
        return None

    def _recover_failed(self) -> None:
        """Recover requests whose inference failed, since OpenVINO never calls their callbacks.

        Inferences fail if no memory is left. Without this method, each failed request would be lost
        permanently.
        """
        failed: list[tuple[PendingOutput, RuntimeError]] = []
        with self._bookkeeping:
            # Under the lock every registered request is started; others report an old failure.
            for key, (request, future) in list(self._running.items()):
                try:
                    request.wait_for(0)
                except RuntimeError as error:
                    if self._running.pop(key, None):
                        self._put_back(request)
                        failed.append((future, error))
        for future, reason in failed:
            logger.error("an inference failed", exc_info=reason)
            future.set_exception(OverloadedError("The inference failed. Try again."))

    def _finish(self, key: int) -> None:
        """Copy a finished request's outputs, free the request, and complete the future.

        OpenVINO calls this when a request ends.
        """
        running = self._running.pop(key, None)
        if running is None:
            return  # the request failed and was recovered, or has no pending answer
        request, future = running
        try:
            outputs = {name: request.get_tensor(name).data.copy() for name in self._outputs}
            answer = EngineOutput(
                logit=outputs["logit"].reshape(1),
                embedding=outputs["embedding"],
                cam=outputs["cam"],
                fracture_map=outputs.get("fracture_map"),
            )
        # Every exception is caught, because a caller waits for the future.
        except Exception as error:
            self._put_back(request)
            future.set_exception(error)
        else:
            self._took_s.append(time.perf_counter() - (future.started_s or 0.0))
            self._put_back(request)
            self._start_waiting()
            future.set_result(answer)
        self._start_waiting()

    def _time_image(self, image: np.ndarray) -> tuple[EngineOutput, float]:
        """Return the outputs of one image and the shortest time, in seconds, of a few runs."""
        outputs, seconds = [], []
        for _ in range(TIMED):
            began = time.perf_counter()
            outputs.append(self.submit(image).result())
            seconds.append(time.perf_counter() - began)
        # The minimum, because other work on the cores, such as a start, makes single runs slower.
        return outputs[-1], min(seconds)
