"""A negative control: train the best architecture on random labels.

The AUROC on held-out patients must be at the level of chance; a higher AUROC indicates leaks
between the sides of the split. The networks do not learn from the real labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cspine.data.samples import Samples
from cspine.decide.calibration import sigmoid
from cspine.evaluate.metrics import compute_metrics
from cspine.train.candidates import Candidate, RunContext, fit_once, load_side
from cspine.train.cross_validation import list_folds, pool_scores
from cspine.train.fitting.result import FitResult
from cspine.train.fitting.trainer import TimeBudget

# Enough epochs to memorise leaked slices; more would only take time.
EPOCHS = 3


def run_random_labels(best: Candidate, context: RunContext) -> dict[str, Any]:
    """Return the AUROC, with its interval over patients, of networks that learned random labels.

    There is one label per slice, shared by all copies of the slice. Masks and twins (slices without
    their fractures) are left out, because they reveal the true label. With folds, each fold is left
    out in turn as for the candidates, since a single fold may hold only one patient.
    """
    config, rng = context.config, np.random.default_rng(context.config.seed)
    size = best.classifier.image_size
    train = load_side(context, context.split.train, size)
    if context.split.folds is None:
        held_out = load_side(context, context.split.validation, size)
        train, held_out = _draw_labels([train, held_out], rng)
        # The last epoch, since the best of several would be above chance merely by selection.
        logits = _fit(best, context, train, held_out, "validation").held_out[-1]
    else:
        # Listed before labels are drawn, since the true labels decide which folds can be left out.
        folds = list_folds(context.split.folds, train)
        (drawn,) = _draw_labels([train], rng)
        results = [
            (
                left_out,
                _fit(best, context, drawn.take(~left_out), drawn.take(left_out), f"fold-{n}"),
            )
            for n, (_, left_out) in enumerate(folds)
        ]
        pooled, is_scored = pool_scores(results, len(drawn), (0, EPOCHS))
        held_out, logits = drawn.take(is_scored), pooled[is_scored]
    found = compute_metrics(
        held_out.labels, sigmoid(logits), 0.5, held_out.groups, config.resamples, config.seed
    )
    return {
        "auroc": found["auroc"].to_dict(),
        "slices": len(held_out),
        "patients": len(np.unique(held_out.groups)),
        "epochs": EPOCHS,
    }


def _fit(
    best: Candidate, context: RunContext, train: Samples, held_out: Samples, name: str
) -> FitResult:
    # No resuming, since a checkpoint of an earlier control may have learned other labels.
    config = replace(context.config, resume=False)
    folder, budget = context.run_dir / "random-labels" / name, TimeBudget(None)
    architecture, until = best.classifier.name, (0, EPOCHS)
    return fit_once(architecture, config, train, held_out, budget, folder, until)[1]


def _draw_labels(sides: list[Samples], rng: np.random.Generator) -> list[Samples]:
    """Return the samples without twins and masks, each slice with a random label (0 or 1)."""
    names = np.unique(np.concatenate([side.slice_ids for side in sides]))
    # By slice, not by file, since copies with different labels could not reveal a leak.
    labels = rng.integers(0, 2, len(names))
    clean = [replace(side.take(~side.is_twin), masks=None) for side in sides]
    return [replace(one, labels=labels[np.searchsorted(names, one.slice_ids)]) for one in clean]
