"""Fits a candidate where each fold is left out in turn: pooled scores, then a refit on everything.

Each slice is scored by a network that never saw its patient, and the network that is kept learns
from all of them until the median best epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cspine.core.errors import DataError
from cspine.core.labels import CLASS_NAMES
from cspine.data.samples import Samples
from cspine.data.split import Fold
from cspine.model.networks.classifier import Classifier
from cspine.train.candidates import RunContext, fit_once
from cspine.train.fitting.result import FitResult, Position
from cspine.train.fitting.trainer import TimeBudget
from cspine.train.network_outputs import measure_distances

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pooled:
    """What networks say of the N slices that they had not seen.

    `logits` (N,) are means over repeats; `distances` float64 (N,) are each by one network, since
    means would spread less than the one distance that serving measures.
    """

    samples: Samples
    logits: np.ndarray
    distances: np.ndarray


def fit_folds(
    name: str, task: RunContext, everything: Samples, clock: TimeBudget, is_first: bool
) -> tuple[Classifier, FitResult, Pooled]:
    """Leave out each fold in turn, then refit on all up to the median of the best epochs.

    The pooled scores are those of that epoch in every fold (the last, where a fold ended sooner),
    averaged over repeats, so that no fold picks its own best epoch. A fixed schedule is refitted in
    full. Interrupted, the folds that are done are judged, where they hold both classes and the
    candidate `is_first`: scores of other patients than another candidate's could not choose.
    """
    turns = list_turns(task, everything)
    results, distances = _fit_each_fold(name, task, everything, turns, clock)
    is_whole = len(results) == len(turns)
    if not results or not (is_whole or is_first):
        raise KeyboardInterrupt
    # The median: one fold's lucky late epoch must not decide for all.
    place = find_median([result.best_position for _, result in results])
    logits, seen = pool_scores(results, len(everything), place)
    if not is_whole:
        if not _has_both(everything.labels[seen]):
            raise KeyboardInterrupt
        logger.info(
            "%s: interrupted; %d of %d folds are judged, and all slices fitted once more. "
            "Ctrl-C ends that too.",
            name,
            len(results),
            len(turns),
        )
    folder = task.run_dir / name / "all"
    until = None if results[0][1].fixed_schedule else place
    classifier, final = fit_once(
        name, task.config, everything, None, clock.part(1.0), folder, until
    )
    # The figures are of networks that learned to the end.
    if final.stopped == "interrupted":
        raise KeyboardInterrupt
    # The refit has nothing to be judged on; the curves that say something are the folds'.
    history = [entry for _, result in results for entry in result.history]
    final = replace(final, history=history, stopped=final.stopped if is_whole else "interrupted")
    return classifier, final, Pooled(everything.take(seen), logits[seen], distances[seen])


def list_turns(task: RunContext, everything: Samples) -> list[tuple[Fold, np.ndarray]]:
    """Each fold that can be judged, and which samples it leaves out, bool (N,).

    Raises:
        DataError: there is none, or those that there are hold one class.
    """
    turns = []
    judged, pooled = ~everything.is_twin, np.zeros(len(everything), bool)
    for fold in task.split.folds or ():
        mine = np.isin(everything.groups, [record.patient_id for record in fold.held_out])
        if (mine & judged).any() and _has_both(everything.labels[judged & ~mine]):
            turns.append((fold, mine))
            pooled |= mine & judged
        else:
            logger.warning("%s is not left out: too few vertebrae were found", fold_name(fold))
    # Before hours of work: calibration and threshold need both.
    if not _has_both(everything.labels[pooled]):
        raise DataError(
            "`data` must hold images in which a vertebra is found, of each class in at least 2 "
            "patients. Received: fewer; `--view slice` takes whole images"
        )
    return turns


def _has_both(labels: np.ndarray) -> bool:
    return len(np.unique(labels)) == len(CLASS_NAMES)


def _fit_each_fold(
    name: str,
    task: RunContext,
    everything: Samples,
    turns: Sequence[tuple[Fold, np.ndarray]],
    clock: TimeBudget,
) -> tuple[list[tuple[np.ndarray, FitResult]], np.ndarray]:
    """Which samples each turn judged, bool (N,), with its result; and distances (N,).

    Ends early when interrupted; distances of samples that were not judged are NaN.
    """
    results: list[tuple[np.ndarray, FitResult]] = []
    distances = np.full(len(everything), np.nan)
    for number, (fold, mine) in enumerate(turns):
        # One share more than there are folds: the last is for the refit on everything.
        part = clock.part(1.0 / (len(turns) + 1 - number))
        folder = task.run_dir / name / f"fold-{number}"
        try:
            judged = mine & ~everything.is_twin
            train, held_out = everything.take(~mine), everything.take(judged)
            classifier, result = fit_once(name, task.config, train, held_out, part, folder)
            # A fold that learned less than the others says nothing of them.
            if result.stopped == "interrupted":
                break
            # Now, while its network is there. A resumed fit has the same weights, so the same.
            if np.isnan(distances[judged]).any():
                distances[judged] = measure_distances(classifier, train, held_out)
        except KeyboardInterrupt:
            break
        results.append((judged, result))
        logger.info("%s without %s: best epoch %d", name, fold_name(fold), result.best_epoch)
    return results, distances


def fold_name(fold: Fold) -> str:
    """The fold's name and repeat, for people."""
    return f"{fold.name}, repeat {fold.repeat + 1}"


def find_median(places: Sequence[Position]) -> Position:
    """The middle one of the places in order; of two in the middle, the sooner."""
    # An observed place, where a mean of two might be in neither stage.
    return sorted(places)[(len(places) - 1) // 2]


def pool_scores(
    results: Sequence[tuple[np.ndarray, FitResult]], count: int, place: Position
) -> tuple[np.ndarray, np.ndarray]:
    """Mean held-out logits (N,) at `place`, and which samples have one, bool (N,)."""
    total, times = np.zeros(count), np.zeros(count, np.int64)
    for mine, result in results:
        total[mine] += result.logits_at(place)
        times[mine] += 1
    return np.divide(total, times, out=np.zeros(count), where=times > 0), times > 0
