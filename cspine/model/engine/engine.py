"""The engine: OpenVINO on the CPU, asynchronous requests over streams, no Keras.

Each image is one request of batch 1; requests run on as many streams as there are cores, which on a
CPU beats batches. An image that comes alone has all cores, and its answer takes about as many times
less as there are cores. A finished request's callback takes the next image at once, so no thread
waits and no lock is held around inference.
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

# A small network is done before more threads could help, and they would cost its rate.
ALONE_FROM_S, TIMED = 0.005, 5


class Engine:
    """A compiled network with its pool of requests. Safe to use from any thread.

    `precision` is what was asked for and `precision_used` what the CPU really computes in: bf16
    needs AVX-512 or newer, and OpenVINO runs f32 instead where it is lacking. Of an int8 network
    some layers run in f32.
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
        `weights` is what the network points into without a reference of its own.

        Raises:
            ArtifactError: the network has other inputs or outputs, or OpenVINO does not compile it.
        """
        self.precision = precision
        self.streams = streams or count_cores()
        self._queue = RequestQueue()
        # The last few: after a pause of the machine one on each stream took long, and says nothing.
        self._took_s: deque[float] = deque(maxlen=self.streams + 1)
        self._idle: deque[ov.InferRequest] = deque()  # each computes on one stream
        self._alone: deque[ov.InferRequest] = deque()  # the one that computes on all cores, if any
        self._of_alone: frozenset[int] = frozenset()
        self._running: dict[int, tuple[ov.InferRequest, PendingOutput]] = {}
        # Over pairing and starting, never over an inference.
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
        # Every request, so that all memory is touched before the engine counts as ready.
        self.infer(np.zeros((self.streams, self.image_size, self.image_size), np.uint8))

    @classmethod
    def load(cls, files: ModelFiles, precision: str = "f32", streams: int | None = None) -> Engine:
        """The engine for one version's files, warmed: its first answer is as fast as the rest.

        f32 and bf16 run from `best.xml` where the card lists it with its hash, else from what is
        made of the `.h5` now. int8 runs from `best_int8.xml` only where it belongs to this `.h5`
        and the card lists its hash; else it is ignored with one warning and f32 runs.

        Raises:
            ConfigError: `precision` is none of f32, bf16, int8.
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
            logger.warning("best_int8.xml is missing or of another model; serving in f32 instead")
            precision = "f32"
        return cls.of_mapped(find_or_build_ir(files), precision, streams)

    @classmethod
    def of_mapped(cls, mapped: MappedNetwork, precision: str, streams: int | None) -> Engine:
        """The engine of a mapped network; it keeps the mapping and gives its memory back."""
        engine = cls(mapped.network, precision, streams, mapped)
        mapped.drop_pages()
        return engine

    def submit(
        self, image: np.ndarray, alone: bool = False, due_s: float = math.inf
    ) -> PendingOutput:
        """Queue one image, uint8 (S, S) grey or (S, S, 3); the future gives its EngineOutput.

        An image that is `alone` may have all cores; see `compile_low_latency`. If others wait,
        an image that would not be done at `due_s`, on `time.monotonic`'s clock, is cancelled.

        A future that is cancelled before its image is started is dropped without work. Callbacks
        of the future run on an engine thread and must be short.

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
        """Outputs of images uint8 (N, S, S, 3) or (N, S, S), N ≥ 1, spread over the streams.

        Raises:
            ValueError: the images have another shape or type.
        """
        if len(images) == 0:
            raise ValueError("`images` must be at least one. Received: 0")
        futures = [self.submit(image) for image in images]
        return EngineOutput.join([future.result() for future in futures])

    def compile_low_latency(self) -> None:
        """Let an image that is submitted as `alone` have all cores, from the end of this call on.

        For this the network is compiled once more, and an engine is ready sooner without. Nothing
        is done where one stream has all cores anyway, or where the network is small. Not for two
        threads at once.

        Raises:
            ArtifactError: OpenVINO does not compile it, for want of memory, or the files of the
                network have changed under it.
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
        # Nobody waits for it, so its callback finds nothing to do.
        request.start_async({0: pixels}, userdata=id(request))
        request.wait()
        # The weights were read from the file again, after their hash was compared.
        if not np.allclose(request.get_tensor("cam").data, expected.cam, rtol=1e-2, atol=1e-2):
            raise ArtifactError("`best.bin` must stay as it is while it is served. It has changed")
        self._of_alone = frozenset((id(request),))
        self._alone.append(request)

    def busy_s(self) -> float:
        """Seconds for which the longest of the running inferences has run; 0 where none runs."""
        # Otherwise a failed one would seem to run until another image is submitted.
        self._recover_failed()
        self._start_waiting()
        running = list(self._running.values())
        began = [answer.started_s for _, answer in running if answer.started_s is not None]
        return time.perf_counter() - min(began) if began else 0.0

    def _add_request(self, compiled: ov.CompiledModel) -> ov.InferRequest:
        """A new request of a compiled network, retired with the engine."""
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
            # Without the lock: who waits may submit the next image at once.
            for answer in late:
                answer.cancel()
            if failed is not None:
                answer, error = failed
                answer.set_exception(error)
            if request is None:
                return

    def _take_idle(self) -> ov.InferRequest | None:
        """An idle request for the image that waits longest; None where either is lacking."""
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
        """Start one inference; return the answer that fails and why, where it does not start."""
        if not one.answer.set_running_or_notify_cancel():
            self._put_back(request)
            return None
        self._running[id(request)] = (request, one.answer)
        try:
            # A number: the request itself as its own user data would never be freed.
            request.start_async({0: one.pixels}, userdata=id(request), share_inputs=True)
        except Exception as error:
            self._running.pop(id(request), None)
            self._put_back(request)
            return one.answer, error
        return None

    def _recover_failed(self) -> None:
        """Take back requests whose inference failed: OpenVINO never calls back for those.

        It happens where no memory is left. Without this each one would be lost for good.
        """
        failed: list[tuple[PendingOutput, RuntimeError]] = []
        with self._bookkeeping:
            # Under the lock none is between its entry and its start, and tells of an old failure.
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
        """Called by OpenVINO when a request ends: copy out, free the request, tell the future."""
        running = self._running.pop(key, None)
        if running is None:
            return  # taken back as failed
        request, future = running
        try:
            outputs = {name: request.get_tensor(name).data.copy() for name in self._outputs}
            answer = EngineOutput(
                logit=outputs["logit"].reshape(1),
                embedding=outputs["embedding"],
                cam=outputs["cam"],
                fracture_map=outputs.get("fracture_map"),
            )
        # Whatever it is, a network without these outputs included: somebody waits for the future.
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
        """The outputs of one image, and the least seconds that it took of a few times."""
        outputs, seconds = [], []
        for _ in range(TIMED):
            began = time.perf_counter()
            outputs.append(self.submit(image).result())
            seconds.append(time.perf_counter() - began)
        # The least: what else wants the cores, such as a start, makes any one of them longer.
        return outputs[-1], min(seconds)
