"""What came of a fit: its history, its best epoch, and what it said of held-out slices.

Stages in a row become one result. It knows no network and no schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Position = tuple[int, int]  # a stage of a fit, from 0, and an epoch of it, from 1


@dataclass
class FitResult:
    """What came of a fit: `network` now holds the weights of `best_epoch` (counted from 1).

    `history` has one dict an epoch; `held_out` float32 (epochs, M) are the held-out logits after
    each, (0, 0) where there was nothing to judge on; `stopped` is `finished`, `patience`, `time`
    or `interrupted`. `stage_epochs` counts the epochs of each stage where there were several in a
    row; with `fixed_schedule` they belong together, and another fit must run them all.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    held_out: np.ndarray
    stopped: str
    stage_epochs: tuple[int, ...] = ()
    fixed_schedule: bool = False

    @property
    def best_value(self) -> float:
        """What the best epoch scored."""
        return float(max(entry["value"] for entry in self.history))

    @property
    def best_position(self) -> Position:
        """The best epoch's place. Another fit may have ended its first stage sooner or later, so
        only places can be compared between fits."""
        stage, epoch = 0, self.best_epoch
        for count in self.stage_epochs[:-1]:
            if epoch <= count:
                break
            stage, epoch = stage + 1, epoch - count
        return stage, epoch

    def logits_at(self, place: Position) -> np.ndarray:
        """Held-out logits (M,) at a place; the stage's last, where it ended sooner."""
        counts = self.stage_epochs or (len(self.held_out),)
        stage, epoch = place
        # Rows of the stages before come first; epochs count from 1, rows from 0.
        logits: np.ndarray = self.held_out[sum(counts[:stage]) + min(epoch, counts[stage]) - 1]
        return logits


def join_results(stages: Mapping[str, FitResult]) -> FitResult:
    """Stages in a row as one result; epochs count on, each entry names its stage.

    The best epoch is the best of the stages that were judged on held-out data, else the last of
    all. Held-out logits of epochs that were not judged are NaN.
    """
    history: list[dict[str, Any]] = []
    for name, result in stages.items():
        count = len(history)
        history += [
            {"stage": name, **entry, "epoch": entry["epoch"] + count} for entry in result.history
        ]
    judged = [entry for entry in history if "validation_loss" in entry]
    # Stages without judging have values of another kind, and must not be compared.
    best = max(judged, key=lambda entry: entry["value"]) if judged else history[-1]
    width = max(one.held_out.shape[1] for one in stages.values())
    rows = [
        one.held_out if one.held_out.size else np.full((len(one.history), width), np.nan)
        for one in stages.values()
    ]
    last = list(stages.values())[-1]
    counts = tuple(len(one.history) for one in stages.values())
    return FitResult(history, best["epoch"], np.concatenate(rows), last.stopped, counts)
