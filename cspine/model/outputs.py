"""What a network says of images, before anything is decided."""

from __future__ import annotations

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
