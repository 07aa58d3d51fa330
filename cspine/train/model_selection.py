"""Fit each candidate, score all on the same held-out slices, and choose the best.

If the split has three sides, the validation slices are held out; if it has folds, each fold is held
out in turn. The test set is not used for the choice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from cspine.model.networks.architectures import find_architecture
from cspine.train.candidates import Candidate, RunContext, fit_once, load_side
from cspine.train.cross_validation import fit_folds, fit_with_left_out_epoch
from cspine.train.fitting.trainer import TimeBudget
from cspine.train.network_outputs import run_network

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
    size = context.config.image_size or find_architecture(name).image_size
    # A twin is the same slice without its fracture. Twins are only in the training data, since no
    # service ever receives one.
    train = load_side(context, context.split.train, size, with_twins=context.config.twins)
    if context.split.folds is None:
        held_out = load_side(context, context.split.validation, size)
        # The test slices are cropped now, so that a bad file ends the run early.
        load_side(context, context.split.test, size)
        distances = None
        if context.split.training_folds:
            classifier, result = fit_with_left_out_epoch(name, context, train, budget)
            logits = run_network(classifier, held_out.images).logits
        else:
            folder = context.run_dir / name
            classifier, result = fit_once(name, context.config, train, held_out, budget, folder)
            logits = result.held_out[result.best_epoch - 1]
    else:
        classifier, result, pooled = fit_folds(name, context, train, budget, is_first)
        held_out, logits, distances = pooled.samples, pooled.logits, pooled.distances
    return Candidate(
        classifier=classifier,
        train=train,
        held_out=held_out,
        logits=logits,
        result=result,
        seconds=time.monotonic() - began,
        distances=distances,
    )
