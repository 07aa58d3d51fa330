"""Cross-validation of a candidate: fit with each fold left out, pool the scores, refit on all data.

Each slice is scored by a network that never learned from its patient. The network that is kept
learns from all slices until the median best epoch.
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
    """Scores of N slices by networks that had not learned from their patients.

    `logits` (N,) are means over repeats. Each of `distances`, float64 (N,), is from one network,
    since a mean would vary less than the single distance that the service measures.
    """

    samples: Samples
    logits: np.ndarray
    distances: np.ndarray


def fit_folds(
    name: str, context: RunContext, everything: Samples, budget: TimeBudget, is_first: bool
) -> tuple[Classifier, FitResult, Pooled]:
    """Leave out each fold in turn, then refit on all up to the median of the best epochs.

    The pooled scores are those of that epoch in every fold (or of the last epoch, if a fold ended
    sooner), averaged over repeats, so that no fold uses its own best epoch. A fixed schedule is
    refitted in full.

    After an interrupt, the finished folds are scored if they hold both classes and the candidate
    `is_first`. Other candidates are dropped, since candidates that are scored on different patients
    cannot be compared.
    """
    folds = list_folds(context.split.folds or (), everything)
    results, distances = _fit_each_fold(name, context, everything, folds, budget)
    is_whole = len(results) == len(folds)
    if not results or not (is_whole or is_first):
        raise KeyboardInterrupt
    # The median, so that one fold's lucky late epoch does not decide for all.
    position = find_median([result.best_position for _, result in results])
    logits, is_scored = pool_scores(results, len(everything), position)
    if not is_whole:
        if not _has_both(everything.labels[is_scored]):
            raise KeyboardInterrupt
        logger.info(
            "%s: interrupted after %d of %d folds. The network is now fitted to all slices; "
            "Ctrl-C stops this too.",
            name,
            len(results),
            len(folds),
        )
    classifier, final = _fit_all(name, context, everything, budget, results, position, is_whole)
    pooled = Pooled(everything.take(is_scored), logits[is_scored], distances[is_scored])
    return classifier, final, pooled


def fit_with_left_out_epoch(
    name: str, context: RunContext, train: Samples, budget: TimeBudget
) -> tuple[Classifier, FitResult]:
    """Fit the training side; its groups, left out in turn, choose the epoch.

    The epoch is the median of the folds' best ones. This serves a data set whose own validation
    side may show the training side's patients, and so could not tell when a network overfits.

    Raises:
        KeyboardInterrupt: it came before the first fold or the last fit was complete.
    """
    folds = list_folds(context.split.training_folds, train)
    results, _ = _fit_each_fold(name, context, train, folds, budget)
    if not results:
        raise KeyboardInterrupt
    position = find_median([result.best_position for _, result in results])
    return _fit_all(name, context, train, budget, results, position, len(results) == len(folds))


def _fit_all(
    name: str,
    context: RunContext,
    train: Samples,
    budget: TimeBudget,
    results: Sequence[tuple[np.ndarray, FitResult]],
    position: Position,
    is_whole: bool,
) -> tuple[Classifier, FitResult]:
    """Fit all samples until `position`; the history is that of the folds, which were scored."""
    folder = context.run_dir / name / "all"
    until = None if results[0][1].fixed_schedule else position
    classifier, final = fit_once(name, context.config, train, None, budget.part(1.0), folder, until)
    # The folds' figures describe completely fitted networks, so an incomplete refit is dropped.
    if final.stopped == "interrupted":
        raise KeyboardInterrupt
    history = [entry for _, result in results for entry in result.history]
    stopped = final.stopped if is_whole else "interrupted"
    return classifier, replace(final, history=history, stopped=stopped)


def list_folds(candidates: Sequence[Fold], everything: Samples) -> list[tuple[Fold, np.ndarray]]:
    """Return each fold that can be scored, and which samples it leaves out, bool (N,).

    Raises:
        DataError: no fold can be scored, or the folds that can be scored hold only one class.
    """
    folds = []
    can_score, pooled = ~everything.is_twin, np.zeros(len(everything), bool)
    for fold in candidates:
        left_out = np.isin(everything.groups, [record.patient_id for record in fold.held_out])
        scored = left_out & can_score
        if scored.any() and _has_both(everything.labels[can_score & ~left_out]):
            folds.append((fold, left_out))
            pooled |= scored
        else:
            logger.warning(
                "%s is not held out, because too few vertebrae were found", fold_name(fold)
            )
    # Checked before hours of work, because calibration and threshold need both classes.
    if not _has_both(everything.labels[pooled]):
        raise DataError(
            "`data` must hold images in which a vertebra is found, of each class in at least 2 "
            "patients. Received: fewer. Use `--view slice` to train on whole "
            "slices"
        )
    return folds


def _has_both(labels: np.ndarray) -> bool:
    return len(np.unique(labels)) == len(CLASS_NAMES)


def _fit_each_fold(
    name: str,
    context: RunContext,
    everything: Samples,
    folds: Sequence[tuple[Fold, np.ndarray]],
    budget: TimeBudget,
) -> tuple[list[tuple[np.ndarray, FitResult]], np.ndarray]:
    """Return which samples each fold scored, bool (N,), with its result; and distances (N,).

    Ends early if interrupted; distances of samples that were not scored are NaN.
    """
    results: list[tuple[np.ndarray, FitResult]] = []
    distances = np.full(len(everything), np.nan)
    for number, (fold, left_out) in enumerate(folds):
        # One share more than there are folds, since the refit on everything needs a share too.
        part = budget.part(1.0 / (len(folds) + 1 - number))
        folder = context.run_dir / name / f"fold-{number}"
        scored = left_out & ~everything.is_twin
        try:
            train, held_out = everything.take(~left_out), everything.take(scored)
            classifier, result = fit_once(name, context.config, train, held_out, part, folder)
            # An interrupted fold learned less than the others, so its scores are not pooled.
            if result.stopped == "interrupted":
                break
            # Measured now, while the fold's network exists. A resumed fit has the same weights and
            # therefore the same distances.
            if np.isnan(distances[scored]).any():
                distances[scored] = measure_distances(classifier, train, held_out)
        except KeyboardInterrupt:
            break
        results.append((scored, result))
        logger.info("%s without %s: best epoch %d", name, fold_name(fold), result.best_epoch)
    return results, distances


def fold_name(fold: Fold) -> str:
    """Return the fold's name and repeat, for messages."""
    return f"{fold.name}, repeat {fold.repeat + 1}"


def find_median(positions: Sequence[Position]) -> Position:
    """Return the median position; if two are in the middle, the earlier of them."""
    # An observed position, since the mean of two positions might not exist.
    return sorted(positions)[(len(positions) - 1) // 2]


def pool_scores(
    results: Sequence[tuple[np.ndarray, FitResult]], count: int, position: Position
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean held-out logits (N,) at `position`, and which samples have one, bool (N,)."""
    total, times = np.zeros(count), np.zeros(count, np.int64)
    for scored, result in results:
        total[scored] += result.logits_at(position)
        times[scored] += 1
    return np.divide(total, times, out=np.zeros(count), where=times > 0), times > 0
