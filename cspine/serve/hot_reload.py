"""Hot reload: hold the served model, and replace it without failing a request.

A new model is loaded beside the old model, warmed and tested, and then becomes `current` in one
assignment. Requests that hold the old model are answered by the old model. If a step fails, the old
model stays.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from cspine.core.errors import ArtifactError
from cspine.predict.predictor import Predictor

logger = logging.getLogger(__name__)

WATCH_S = 1.0  # between two checks of the folder; each check costs one `stat`
RETRY_S = 60.0  # the wait before a model that was refused is tried again

Load = Callable[[str | None], Predictor]
Stamp = Callable[[], object]


class ModelManager:
    """The current predictor, and the only way to change it.

    Args:
        predictor: the first predictor, ready to answer.
        load: called with the name of a version kept in the model folder, or with None for the
            newest. Without `load`, the model cannot be replaced.
        stamp: returns a value that changes when a model is published, or None while the folder
            shows no model.
        seen: the stamp from before `predictor` was loaded, so that a later model is noticed.
        on_swap: called after another model took over.
        on_refusal: called after a model was refused.
    """

    def __init__(
        self,
        predictor: Predictor,
        load: Load | None = None,
        stamp: Stamp = lambda: None,
        seen: object = None,
        on_swap: Callable[[Predictor], None] = lambda _: None,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        self.current = predictor
        self._load = load
        self._stamp = stamp
        self._seen = seen
        self._again_s = math.inf  # when a model that was refused is tried again
        # The lock allows one load at a time, because each load holds one more model in memory
        # beside the served one.
        self._swapping = threading.Lock()
        self._is_new = True  # `current` is not compiled for low latency yet
        self._is_ending = threading.Event()  # replaced by the event passed to `watch`
        self._on_swap, self._on_refusal = on_swap, on_refusal

    def reload(self, version: str | None = None) -> Predictor:
        """Serve another version from now on, and return its predictor.

        Args:
            version: a version kept in the model folder; None for the newest.

        Raises:
            ArtifactError: there is no such version, it cannot be loaded, it fails its own test, or
                this manager has no `load`.
            Exception: any other error of the load, such as a full disk or a lack of memory.
        """
        if self._load is None:
            raise ArtifactError(
                "The model must come from a folder, so that another one can be loaded."
            )
        with self._swapping:
            try:
                predictor = self._load(version)
            except Exception as error:  # also for a damaged file, a full disk or a lack of memory
                if isinstance(error, ArtifactError):
                    logger.error("another model was refused; the old model stays: %s", error)
                else:
                    logger.exception("another model could not be loaded; the old model stays")
                self._on_refusal()
                raise
            # A request reads either the old or the new predictor, because this is one assignment.
            version_before, self.current = self.current.version, predictor
            # Cancel the retry of a version that was refused: it would replace this version, which
            # an operator may have chosen.
            self._again_s = math.inf
            self._on_swap(predictor)
            logger.info("model %s replaces model %s", predictor.version, version_before)
            self._is_new = True
        return predictor

    def _compile_low_latency(self) -> None:
        """Compile the current model for low latency if it is new and the process is not ending."""
        with self._swapping:
            if self._is_new and not self._is_ending.is_set():
                self._is_new = False
                self.current.compile_low_latency()

    def watch(self, is_ending: threading.Event) -> threading.Thread:
        """Start a thread that reloads the model when the stamp changes, until `is_ending` is set.

        The thread also compiles each model for low latency once the model serves.
        """
        self._is_ending = is_ending
        thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        thread.start()
        return thread

    def _watch(self) -> None:
        self._compile_low_latency()
        while not self._is_ending.wait(WATCH_S):
            # The compile for low latency runs here and not in `reload`, so that a request to reload
            # need not wait for it.
            self._compile_low_latency()
            stamp = self._stamp()
            if stamp is None or (stamp == self._seen and time.monotonic() < self._again_s):
                # Nothing is new, or the folder is missing for a while, so the old model stays.
                continue
            self._seen = stamp
            try:
                self.reload()
            # `reload` has logged and counted the error, and the watch must go on. The load is tried
            # again, because a full disk or a lack of memory may be the cause.
            except Exception:
                self._again_s = time.monotonic() + RETRY_S
