"""Result of a fit: history, best epoch and held-out logits; stages are joined into one result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Position = tuple[int, int]  # a stage, counted from 0, and an epoch of it, counted from 1


def rate_epoch(auroc: float, loss: float) -> float:
    """Return a value by which epochs are ordered: the AUROC, or a value of the loss if it cannot.

    With one class only there is no AUROC (NaN), so epochs are ordered by loss. An AUROC of 1 cannot
    order the epochs that reach it, so these are ordered by loss too, above all others.
    """
    if not math.isfinite(auroc):
        return -loss
    return auroc if auroc < 1.0 else 1.0 + math.exp(-loss)


@dataclass
class FitResult:
    """The result of a fit, whose network now holds the weights of `best_epoch` (counted from 1).

    `history` has one dict per epoch; `held_out` float32 (epochs, M) are the held-out logits after
    each epoch, (0, 0) without held-out samples; `stopped` is `finished`, `patience`, `time` or
    `interrupted`. `stage_epochs` counts the epochs of each stage if there were several. With
    `fixed_schedule` the stages form one schedule, which a refit must run completely.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    held_out: np.ndarray
    stopped: str
    stage_epochs: tuple[int, ...] = ()
    fixed_schedule: bool = False

    @property
    def best_value(self) -> float:
        """The value of the best epoch (`rate_epoch`), which is usually its held-out AUROC."""
        return float(max(entry["value"] for entry in self.history))

    @property
    def best_position(self) -> Position:
        """The stage of the best epoch and its number within that stage.

        Positions of several fits can be compared even if their first stages differ in length.
        """
        stage, epoch = 0, self.best_epoch
        for count in self.stage_epochs[:-1]:
            if epoch <= count:
                break
            stage, epoch = stage + 1, epoch - count
        return stage, epoch

    def logits_at(self, place: Position) -> np.ndarray:
        """Return held-out logits (M,) at `place`, or at the stage's end if it ended sooner."""
        counts = self.stage_epochs or (len(self.held_out),)
        stage, epoch = place
        # Rows of earlier stages come first; epochs count from 1, rows from 0.
        logits: np.ndarray = self.held_out[sum(counts[:stage]) + min(epoch, counts[stage]) - 1]
        return logits


def join_results(stages: Mapping[str, FitResult]) -> FitResult:
    """Return successive stages as one result.

    Epochs are numbered consecutively, and each entry of the history names its stage. The best epoch
    is the best that was scored on held-out data; if none was, it is the last. Held-out logits of
    epochs that were not scored are NaN.
    """
    history: list[dict[str, Any]] = []
    for name, result in stages.items():
        count = len(history)
        history += [
            {"stage": name, **entry, "epoch": entry["epoch"] + count} for entry in result.history
        ]
    judged = [entry for entry in history if "validation_loss" in entry]
    # Without held-out data `value` is an epoch's number, which must not be compared with a score.
    best = max(judged, key=lambda entry: entry["value"]) if judged else history[-1]
    width = max(one.held_out.shape[1] for one in stages.values())
    rows = [
        one.held_out if one.held_out.size else np.full((len(one.history), width), np.nan)
        for one in stages.values()
    ]
    last = list(stages.values())[-1]
    counts = tuple(len(one.history) for one in stages.values())
    return FitResult(history, best["epoch"], np.concatenate(rows), last.stopped, counts)
