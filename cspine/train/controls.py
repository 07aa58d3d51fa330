"""A control that must fail: the best architecture trained on labels drawn at random.

Whatever it scores on patients it has not seen is what leaks; it must be chance. It knows nothing of
the real labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cspine.data.samples import Samples
from cspine.decide.calibration import sigmoid
from cspine.evaluate.metrics import compute_metrics
from cspine.train.candidates import Candidate, RunContext, fit_once, load_side
from cspine.train.cross_validation import list_turns, pool_scores
from cspine.train.fitting.result import FitResult
from cspine.train.fitting.trainer import TimeBudget

# Enough to learn by heart what leaks; more would only cost time.
EPOCHS = 3


def run_random_labels(best: Candidate, task: RunContext) -> dict[str, Any]:
    """AUROC, with its interval over patients, of networks that learned random labels.

    One draw a slice, so copies of a slice share theirs; no masks and no twins, since both tell the
    truth. With folds each is left out in turn, as for the candidates: one alone may be one patient.
    """
    config, rng = task.config, np.random.default_rng(task.config.seed)
    size = best.classifier.image_size
    train = load_side(task, task.split.train, size)
    if task.split.folds is None:
        held_out = load_side(task, task.split.validation, size)
        train, held_out = _draw_labels([train, held_out], rng)
        # The last epoch's: the best of several is above chance by the choice alone.
        logits = _fit(best, task, train, held_out, "validation").held_out[-1]
    else:
        held_out, logits = _leave_out_in_turn(best, task, train, rng)
    found = compute_metrics(
        held_out.labels, sigmoid(logits), 0.5, held_out.groups, config.resamples, config.seed
    )
    return {
        "auroc": found["auroc"].to_dict(),
        "slices": len(held_out),
        "patients": len(np.unique(held_out.groups)),
        "epochs": EPOCHS,
    }


def _leave_out_in_turn(
    best: Candidate, task: RunContext, everything: Samples, rng: np.random.Generator
) -> tuple[Samples, np.ndarray]:
    """The slices that were left out and their pooled logits (N,) after the last epoch."""
    turns = list_turns(task, everything)
    (drawn,) = _draw_labels([everything], rng)
    results = [
        (mine, _fit(best, task, drawn.take(~mine), drawn.take(mine), f"fold-{number}"))
        for number, (_, mine) in enumerate(turns)
    ]
    logits, seen = pool_scores(results, len(drawn), (0, EPOCHS))
    return drawn.take(seen), logits[seen]


def _fit(
    best: Candidate, task: RunContext, train: Samples, held_out: Samples, turn: str
) -> FitResult:
    # A checkpoint of an earlier control learned other tosses.
    config = replace(task.config, resume=False)
    folder = task.run_dir / "random-labels" / turn
    name, until = best.classifier.name, (0, EPOCHS)
    return fit_once(name, config, train, held_out, TimeBudget(None), folder, until)[1]


def _draw_labels(sides: list[Samples], rng: np.random.Generator) -> list[Samples]:
    """Samples whose labels are a fair coin's, one toss a slice."""
    names = np.unique(np.concatenate([side.slice_ids for side in sides]))
    # One toss a slice and not a file: copies with labels of their own could not leak.
    tosses = rng.integers(0, 2, len(names))
    drawn = []
    for side in sides:
        labels = tosses[np.searchsorted(names, side.slice_ids)]
        clean = side.take(~side.is_twin)
        drawn.append(replace(clean, labels=labels[~side.is_twin], masks=None))
    return drawn
