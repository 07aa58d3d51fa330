"""A control that must fail: the best architecture trained on labels drawn at random.

Whatever it scores on patients it has not seen is what leaks; it must be chance. It knows nothing of
the real labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cspine.data.samples import Samples
from cspine.evaluate.metrics import compute_metrics
from cspine.train.candidate import Candidate, Task, fit_once, load_side
from cspine.train.fit import Clock
from cspine.train.folds import list_turns

# Enough to learn by heart what leaks; more would only cost time.
EPOCHS = 3


def run_random_labels(best: Candidate, task: Task) -> dict[str, Any]:
    """AUROC, with its interval over patients, of a network that learned random labels.

    One draw a slice, so copies of a slice share theirs; no masks and no twins, since both tell the
    truth. With folds, the first that can be judged is the one that is left out.
    """
    rng = np.random.default_rng(task.config.seed)
    size, name = best.classifier.image_size, best.classifier.name
    train = load_side(task, task.split.train, size)
    if task.split.folds is None:
        held_out = load_side(task, task.split.validation, size)
    else:
        _, mine = list_turns(task, train)[0]
        train, held_out = train.take(~mine), train.take(mine)
    train, held_out = _draw_labels([train, held_out], rng)
    # A checkpoint of an earlier control learned other tosses.
    config = replace(task.config, resume=False)
    folder = task.run_dir / "random-labels"
    _, result = fit_once(name, config, train, held_out, Clock(None), folder, (0, EPOCHS))
    # The last epoch's: the best of several is above chance by the choice alone.
    probabilities = 1.0 / (1.0 + np.exp(-result.held_out[-1].astype(np.float64)))
    found = compute_metrics(
        held_out.labels, probabilities, 0.5, held_out.groups, task.config.resamples
    )
    return {"auroc": found["auroc"].to_dict(), "slices": len(held_out), "epochs": EPOCHS}


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
