"""Fit each candidate, score all on the same held-out slices, and choose the best.

If the split has three sides, the validation slices are held out; if it has folds, each fold is held
out in turn. The test slices are not used for the choice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial

from cspine.data.crop_cache import have_masks
from cspine.model.networks.architectures import choose_image_size
from cspine.train.candidates import Candidate, RunContext, fit_once, load_side
from cspine.train.cross_validation import HeldOutScores, fit_folds, fit_published
from cspine.train.fitting.trainer import TimeBudget

logger = logging.getLogger(__name__)


def fit_candidates(context: RunContext) -> list[Candidate]:
    """Fit every configured architecture; an interrupted run keeps those that are already fitted."""
    names = context.config.seen_architectures()
    budget = TimeBudget(context.config.time_limit)
    found: list[Candidate] = []
    for number, name in enumerate(names):
        try:
            # An equal part of the time left: later candidates get the time that one does not use.
            part = budget.part(1.0 / (len(names) - number))
            candidate = _fit_candidate(name, context, part, is_first=not found)
        except KeyboardInterrupt:
            if not found:
                raise
            logger.info("%s: interrupted before there was anything to score", name)
            break
        found.append(candidate)
        logger.info(
            "%s: validation AUROC %.4f on %s", name, candidate.auroc, candidate.held_out.describe()
        )
        if candidate.result.stopped == "interrupted":
            break
    return found


def choose_best(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the highest held-out AUROC; of equals, the first configured."""
    # By AUROC, since no threshold is chosen yet and losses depend on each network's calibration.
    return max(candidates, key=lambda one: one.auroc)


def _fit_candidate(name: str, context: RunContext, budget: TimeBudget, is_first: bool) -> Candidate:
    began = time.monotonic()
    default = choose_image_size(name, context.view, have_masks(context.split.train))
    size = context.config.image_size or default
    split, load = context.split, partial(load_side, context, image_size=size)
    # A twin is the same slice without its fracture. Twins are only in the training data, since no
    # service ever receives one.
    learned = (*split.train, *split.validation) if split.mode == "published" else split.train
    train = load(learned, with_twins=context.config.twins)
    # The test slices are cropped now, so that a bad file ends the run early.
    if split.test:
        load(split.test)
    if split.mode == "published":
        classifier, result, pooled = fit_published(name, context, train, budget)
    elif split.folds is not None:
        classifier, result, pooled = fit_folds(name, context, train, budget, is_first)
    else:
        held_out, folder = load(split.validation), context.run_dir / name
        classifier, result = fit_once(name, context.config, train, held_out, budget, folder)
        pooled = HeldOutScores(held_out, result.held_out[result.best_epoch - 1], None)
    return Candidate(
        classifier=classifier,
        train=train,
        held_out=pooled.samples,
        logits=pooled.logits,
        result=result,
        seconds=time.monotonic() - began,
        distances=pooled.distances,
    )
