"""A control that must fail: the best architecture trained on labels drawn at random.

Its AUROC on held-out patients must be that of chance; a higher one comes from leaks between the
sides of the split. The real labels are not used.
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

# Enough to learn leaked slices by heart; more would only cost time.
EPOCHS = 3


def run_random_labels(best: Candidate, context: RunContext) -> dict[str, Any]:
    """AUROC, with its interval over patients, of networks that learned random labels.

    One label a slice, so copies of a slice share theirs; no masks and no twins, which show the
    true label. With folds each is left out in turn, as for the candidates: one may be one patient.
    """
    config, rng = context.config, np.random.default_rng(context.config.seed)
    size = best.classifier.image_size
    train = load_side(context, context.split.train, size)
    if context.split.folds is None:
        held_out = load_side(context, context.split.validation, size)
        train, held_out = _draw_labels([train, held_out], rng)
        # The last epoch's: the best of several is above chance by the choice alone.
        logits = _fit(best, context, train, held_out, "validation").held_out[-1]
    else:
        # Before any label is drawn: the true ones say which folds can be left out.
        folds = list_folds(context, train)
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
    # A checkpoint of an earlier control learned other labels.
    config = replace(context.config, resume=False)
    folder, budget = context.run_dir / "random-labels" / name, TimeBudget(None)
    architecture, until = best.classifier.name, (0, EPOCHS)
    return fit_once(architecture, config, train, held_out, budget, folder, until)[1]


def _draw_labels(sides: list[Samples], rng: np.random.Generator) -> list[Samples]:
    """The samples without twins and masks, each slice with a label drawn by a fair coin."""
    names = np.unique(np.concatenate([side.slice_ids for side in sides]))
    # For each slice and not for each file: copies with different labels could not leak.
    labels = rng.integers(0, 2, len(names))
    clean = [replace(side.take(~side.is_twin), masks=None) for side in sides]
    return [replace(one, labels=labels[np.searchsorted(names, one.slice_ids)]) for one in clean]
