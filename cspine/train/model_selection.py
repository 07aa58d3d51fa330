"""Fits each candidate, judges all on the same held-out slices, and picks the best.

With three sides, validation judges; with folds, the pooled scores of those left out in turn. It
knows nothing of thresholds, cards or the test set.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from cspine.model.networks.architectures import find_architecture
from cspine.train.candidates import Candidate, RunContext, fit_once, load_side
from cspine.train.cross_validation import fit_folds
from cspine.train.fitting.trainer import TimeBudget

logger = logging.getLogger(__name__)


def fit_candidates(task: RunContext) -> list[Candidate]:
    """Fit every architecture of the configuration; an interrupted run keeps those it has."""
    names = task.config.seen_architectures()
    clock = TimeBudget(task.config.time_limit)
    found: list[Candidate] = []
    for number, name in enumerate(names):
        try:
            # An equal part of what is left, so that what one does not use the next ones get.
            part = clock.part(1.0 / (len(names) - number))
            candidate = _fit_candidate(name, task, part, is_first=not found)
        except KeyboardInterrupt:
            if not found:
                raise
            logger.info("%s: interrupted before there was anything to judge", name)
            break
        found.append(candidate)
        logger.info(
            "%s: validation AUROC %.4f on %s", name, candidate.auroc, candidate.held_out.describe()
        )
        if candidate.stopped == "interrupted":
            break
    return found


def choose_best(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the highest held-out AUROC; the first named wins a tie."""
    # By AUROC: no threshold is chosen yet, and losses of different calibration cannot be compared.
    return max(candidates, key=lambda one: one.auroc)


def _fit_candidate(name: str, task: RunContext, clock: TimeBudget, is_first: bool) -> Candidate:
    began = time.monotonic()
    size = task.config.image_size or find_architecture(name).image_size
    # Twins are for learning only: nobody is served one.
    train = load_side(task, task.split.train, size, with_twins=task.config.twins)
    folder = task.run_dir / name
    if task.split.folds is None:
        held_out = load_side(task, task.split.validation, size)
        # Cropped now: a bad file must not end the run late.
        load_side(task, task.split.test, size)
        classifier, result = fit_once(name, task.config, train, held_out, clock, folder)
        logits, distances = result.held_out[result.best_epoch - 1], None
    else:
        classifier, result, pooled = fit_folds(name, task, train, clock, is_first)
        held_out, logits, distances = pooled.samples, pooled.logits, pooled.distances
    seconds = time.monotonic() - began
    return Candidate(
        classifier,
        train,
        held_out,
        logits,
        result.history,
        result.best_epoch,
        result.stopped,
        seconds,
        distances,
    )
