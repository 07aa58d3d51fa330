"""Which model is served, and how another takes its place without a request noticing.

A new model is loaded beside the old one, warmed and tested, and only then becomes `current`, in one
assignment; requests that already hold the old one end with it. Whatever fails leaves the old one.
Knows no files: `load` and `stamp` do.
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

# One `stat` a second costs nothing, and who publishes does not wait.
WATCH_S = 1.0
RETRY_S = 60.0

Load = Callable[[str | None], Predictor]
Stamp = Callable[[], object]


class ModelManager:
    """The current predictor, and the one way to change it.

    Args:
        predictor: the first one, ready to answer.
        load: loads the kept version of that name, or the newest for None; without it the model
            cannot be changed.
        stamp: a value that changes when a new model is published; None where it cannot be told.
        on_swap, on_refusal: called after another model took over, and after one was refused.
        seen: the stamp from before `predictor` was loaded, so that what is published after is
            noticed.
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
        self._again_s = math.inf  # when what was refused is tried again
        # Two loads at once would need three models' memory.
        self._swapping = threading.Lock()
        self._is_new = threading.Event()  # and not hastened yet
        self._is_new.set()
        self._is_ending = threading.Event()  # until `watch` is told another
        self._on_swap, self._on_refusal = on_swap, on_refusal

    def reload(self, version: str | None = None) -> Predictor:
        """Serve another version from now on, and return its predictor.

        Raises:
            ArtifactError: there is none, or it cannot be loaded or fails its own test.
        """
        if self._load is None:
            raise ArtifactError("The model must come from a folder to be loaded again.")
        with self._swapping:
            try:
                predictor = self._load(version)
            except ArtifactError as error:
                logger.error("another model was refused, the old one stays: %s", error)
                self._on_refusal()
                raise
            except Exception:  # whatever a published file, a full disk or memory made of itself
                logger.exception("another model could not be loaded, the old one stays")
                self._on_refusal()
                raise
            # One assignment: a request reads either the old predictor or the new one, whole.
            version_before, self.current = self.current.version, predictor
            # Whoever chose this one does not want the refused one back.
            self._again_s = math.inf
            self._on_swap(predictor)
            logger.info("model %s serves in place of %s", predictor.version, version_before)
            self._is_new.set()
        return predictor

    def _compile_low_latency(self) -> None:
        """Hasten the current model if it is new, unless the process is about to end."""
        with self._swapping:
            if self._is_new.is_set() and not self._is_ending.is_set():
                self._is_new.clear()
                self.current.compile_low_latency()

    def watch(self, is_ending: threading.Event) -> threading.Thread:
        """Start a thread that hastens the model, which serves by now, and reloads it whenever the
        stamp changes, until `is_ending` is set."""
        self._is_ending = is_ending
        thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        thread.start()
        return thread

    def _watch(self) -> None:
        self._compile_low_latency()
        while not self._is_ending.wait(WATCH_S):
            # Here, so that who asked for a load has the answer before the second compile.
            self._compile_low_latency()
            stamp = self._stamp()
            if stamp is None or (stamp == self._seen and time.monotonic() < self._again_s):
                # Nothing new, or the folder is away for a while: the old model serves on.
                continue
            # What fails may have failed for want of disk or memory, so it is tried again.
            self._seen = stamp
            try:
                self.reload()
            except Exception:  # said and counted by `reload`: the watch must go on
                self._again_s = time.monotonic() + RETRY_S
