"""Which model is served, and how another takes its place without a request noticing.

A new model is loaded beside the old one, warmed and tested, and only then becomes `current`, in one
assignment; requests that already hold the old one end with it. Whatever fails leaves the old one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from cspine.core.errors import ArtifactError
from cspine.predict.predictor import Predictor

logger = logging.getLogger(__name__)

Load = Callable[[str | None], Predictor]


class ModelHolder:
    """The current predictor, and the one way to change it.

    Args:
        predictor: the first one, ready to answer.
        load: loads the kept version of that name, or the newest for None; None where the service
            was given a predictor that it cannot load again.
    """

    def __init__(self, predictor: Predictor, load: Load | None = None) -> None:
        self.current = predictor
        self._load = load
        self._swapping = threading.Lock()
        self.on_swap: Callable[[Predictor], None] = lambda _: None
        self.on_refusal: Callable[[], None] = lambda: None

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
                self.on_refusal()
                raise
            old, self.current = self.current, predictor
            self.on_swap(predictor)
        logger.info("model %s serves in place of %s", predictor.version, old.version)
        return predictor
