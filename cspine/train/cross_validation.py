"""Cross-validation of a candidate: fit with each fold left out, pool the scores, refit on all data.

Each slice is scored by a network that never learned from its patient. The network that is kept
learns from all slices until the median best epoch. The published split has one fold, its validation
files; they may share patients with its other files.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cspine.core.errors import DataError
from cspine.core.labels import CLASS_NAMES
from cspine.data.samples import Samples
from cspine.data.split import Fold
from cspine.model.networks.classifier import Classifier
from cspine.train.candidates import RunContext, fit_once
from cspine.train.fitting.result import FitResult, Position
from cspine.train.fitting.trainer import TimeBudget
from cspine.train.network_outputs import measure_distances, run_network

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOutScores:
    """Scores of N slices by networks that had not learned from them.

    `logits` (N,) are means over repeats. Each of `distances`, float64 (N,), is from one network,
    since a mean would vary less than the single distance that the service measures. It is None if
    the network that is kept did not learn from the slices, and so can measure them itself.
    """

    samples: Samples
    logits: np.ndarray
    distances: np.ndarray | None


def fit_folds(
    name: str, context: RunContext, everything: Samples, budget: TimeBudget, is_first: bool
) -> tuple[Classifier, FitResult, HeldOutScores]:
    """Leave out each fold in turn, then refit on all up to the median of the best epochs.

    The pooled scores are those of that epoch in every fold (or of the last epoch, if a fold ended
    sooner), averaged over repeats, so that no fold uses its own best epoch. A fixed schedule is
    refitted in full.

    After an interrupt, the finished folds are scored if they hold both classes and the candidate
    `is_first`. Other candidates are dropped, since candidates that are scored on different patients
    cannot be compared.
    """
    folds = list_folds(context.split.folds or (), everything)
    distances = np.full(len(everything), np.nan)
    results = _fit_each_fold(name, context, everything, folds, budget, distances)
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
    fits, folder = [result for _, result in results], context.run_dir / name / "all"
    classifier, final = _fit_all(name, context, everything, budget, fits, position, folder)
    stopped = final.stopped if is_whole else "interrupted"
    pooled = HeldOutScores(everything.take(is_scored), logits[is_scored], distances[is_scored])
    return classifier, replace(final, stopped=stopped), pooled


def fit_published(
    name: str, context: RunContext, everything: Samples, budget: TimeBudget
) -> tuple[Classifier, FitResult, HeldOutScores]:
    """Fit the published training files, score the validation files, and refit on both.

    The published folders hold so few patients that a network should learn from every slice that is
    not tested. The epoch is the best one on the validation files or, if several groups of the
    training files can be left out in turn, the median of theirs: validation files that show the
    training files' patients do not tell when a network overfits.

    If the refit is interrupted, the network that was fitted to the training files is kept.

    Raises:
        KeyboardInterrupt: it came before the first fit was complete enough to score.
    """
    validation = {record.path for record in context.split.validation}
    left_out = np.array([record.path in validation for record in everything.records])
    train, held_out = everything.take(~left_out), everything.take(left_out & ~everything.is_twin)
    # The refit costs about as much as the first fit.
    half, folder = budget.part(0.5), context.run_dir / name
    if context.split.training_folds:
        classifier, result = _fit_with_left_out_epoch(name, context, train, half)
        logits = run_network(classifier, held_out.images).logits
    else:
        classifier, result = fit_once(name, context.config, train, held_out, half, folder)
        logits = result.held_out[result.best_epoch - 1]
    pooled = HeldOutScores(held_out, logits, measure_distances(classifier, train, held_out))
    if result.stopped == "interrupted":
        return classifier, result, pooled
    try:
        refit = partial(_fit_all, name, context, everything, budget, [result], result.best_position)
        return *refit(folder / "all"), pooled
    except KeyboardInterrupt:
        logger.info("%s: the refit was interrupted, so the first fit is kept", name)
        return classifier, replace(result, stopped="interrupted"), pooled


def _fit_with_left_out_epoch(
    name: str, context: RunContext, train: Samples, budget: TimeBudget
) -> tuple[Classifier, FitResult]:
    """Fit `train` until the median of the best epochs of its groups, left out in turn."""
    folds = list_folds(context.split.training_folds, train)
    results = [result for _, result in _fit_each_fold(name, context, train, folds, budget)]
    if not results:
        raise KeyboardInterrupt
    position = find_median([result.best_position for result in results])
    folder = context.run_dir / name / "train"
    classifier, final = _fit_all(name, context, train, budget, results, position, folder)
    stopped = final.stopped if len(results) == len(folds) else "interrupted"
    return classifier, replace(final, stopped=stopped)


def _fit_all(
    name: str,
    context: RunContext,
    train: Samples,
    budget: TimeBudget,
    results: Sequence[FitResult],
    position: Position,
    folder: Path,
) -> tuple[Classifier, FitResult]:
    """Fit all samples until `position`; the history is that of `results`, which were scored.

    Raises:
        KeyboardInterrupt: it came before the fit was complete. The figures of `results` describe
            completely fitted networks, so an incomplete one is dropped.
    """
    until = None if results[0].fixed_schedule else position
    classifier, final = fit_once(name, context.config, train, None, budget.part(1.0), folder, until)
    if final.stopped == "interrupted":
        raise KeyboardInterrupt
    return classifier, replace(final, history=[row for one in results for row in one.history])


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
    distances: np.ndarray | None = None,
) -> list[tuple[np.ndarray, FitResult]]:
    """Return which samples each fold scored, bool (N,), with its result.

    Ends early if interrupted. The distances of the samples that were scored are written into
    `distances`, float64 (N,), where it still is NaN.
    """
    results: list[tuple[np.ndarray, FitResult]] = []
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
            if distances is not None and np.isnan(distances[scored]).any():
                distances[scored] = measure_distances(classifier, train, held_out)
        except KeyboardInterrupt:
            break
        results.append((scored, result))
        logger.info("%s without %s: best epoch %d", name, fold_name(fold), result.best_epoch)
    return results


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
