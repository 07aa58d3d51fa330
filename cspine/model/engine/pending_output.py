"""Raw outputs of a network, and the future of one image's outputs."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EngineOutput:
    """Raw outputs of N images, float32.

    `logit` (N,), `embedding` (N, D), `cam` (N, h, w) in logits with mean `logit`, `fracture_map`
    (N, S//8, S//8) in 0…1, or None where the network has no map head.
    """

    logit: np.ndarray
    embedding: np.ndarray
    cam: np.ndarray
    fracture_map: np.ndarray | None

    @classmethod
    def join(cls, outputs: list[EngineOutput]) -> EngineOutput:
        """One output of the images of several, in order (at least one)."""
        maps = [one.fracture_map for one in outputs]
        return cls(
            np.concatenate([one.logit for one in outputs]),
            np.concatenate([one.embedding for one in outputs]),
            np.concatenate([one.cam for one in outputs]),
            None if maps[0] is None else np.concatenate([m for m in maps if m is not None]),
        )


class PendingOutput(Future[EngineOutput]):
    """A future that keeps its engine until it ends: with its engine gone, it would not end.

    `asked_s` and `started_s`, None until its image is computed, are on `time.perf_counter`'s clock.
    """

    def __init__(self, engine: object) -> None:
        super().__init__()
        self.asked_s = time.perf_counter()
        self.started_s: float | None = None
        self._engine: object | None = engine
        self.add_done_callback(lambda _: self._let_go())

    def set_running_or_notify_cancel(self) -> bool:
        """Note when the work begins; otherwise as `Future`'s."""
        self.started_s = time.perf_counter()
        return super().set_running_or_notify_cancel()

    def _let_go(self) -> None:
        self._engine = None
