"""The raw outputs of a network, and a future for the outputs of one image."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EngineOutput:
    """Raw outputs of N images, float32.

    `logit` (N,), `embedding` (N, D), `cam` (N, h, w) in logits with mean `logit`, `fracture_map`
    (N, S//8, S//8) in 0…1, or None if the network has no map head.
    """

    logit: np.ndarray
    embedding: np.ndarray
    cam: np.ndarray
    fracture_map: np.ndarray | None

    @classmethod
    def join(cls, outputs: list[EngineOutput]) -> EngineOutput:
        """Concatenate the images of at least one output, in order."""
        maps = [one.fracture_map for one in outputs]
        return cls(
            np.concatenate([one.logit for one in outputs]),
            np.concatenate([one.embedding for one in outputs]),
            np.concatenate([one.cam for one in outputs]),
            None if maps[0] is None else np.concatenate([m for m in maps if m is not None]),
        )


class PendingOutput(Future[EngineOutput]):
    """A future that keeps its engine alive until it is done, since only the engine can finish it.

    `asked_s` is when the image was submitted and `started_s` when its inference started (None
    before that), both on `time.perf_counter`'s clock.
    """

    def __init__(self, engine: object) -> None:
        super().__init__()
        self.asked_s = time.perf_counter()
        self.started_s: float | None = None
        self._engine: object | None = engine
        self.add_done_callback(lambda _: self._let_go())

    def set_running_or_notify_cancel(self) -> bool:
        """Record when the work begins; otherwise the same as in `Future`."""
        self.started_s = time.perf_counter()
        return super().set_running_or_notify_cancel()

    def _let_go(self) -> None:
        self._engine = None
