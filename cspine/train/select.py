"""Fits each candidate, judges all on the same held-out slices, and picks the best.

With three sides, validation judges. With folds, each is scored by a network that never saw it, the
pooled scores judge, and the candidate is refitted on everything for the median best epoch. It knows
nothing of thresholds, cards or the test set.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cspine.core.config import TrainConfig
from cspine.core.errors import DataError
from cspine.core.labels import CLASS_NAMES
from cspine.data.pipeline import Samples, load_samples
from cspine.data.records import Dataset, SliceRecord
from cspine.data.split import Fold, Split
from cspine.decide.image_checks import check_image
from cspine.model.architectures import find_architecture
from cspine.model.classifier import Classifier, build_classifier
from cspine.train.fit import Clock, FitPlan, area_under_roc
from cspine.train.result import FitResult, Place
from cspine.train.scratch import fit_scratch
from cspine.train.transfer import TransferPlan, fit_transfer

logger = logging.getLogger(__name__)

# Where the user does not say; a time limit usually ends a run before.
EPOCHS_SCRATCH, EPOCHS_HEAD = 20, 20


@dataclass(frozen=True)
class Task:
    """What every candidate gets alike."""

    config: TrainConfig
    dataset: Dataset
    split: Split
    view: str
    run_dir: Path


@dataclass(frozen=True)
class Candidate:
    """One fitted network and how it did where it was not fitted.

    `train` holds twins as well; `held_out` are the validation slices, or with folds those
    that were left out in turn, and `logits` (N,) what networks that had not seen them said.
    """

    classifier: Classifier
    train: Samples
    held_out: Samples
    logits: np.ndarray
    history: list[dict[str, Any]]
    best_epoch: int
    stopped: str
    seconds: float

    @property
    def auroc(self) -> float:
        """AUROC on the held-out slices."""
        return area_under_roc(self.held_out.labels, self.logits)


def fit_candidates(task: Task) -> list[Candidate]:
    """Fit every architecture of the configuration; an interrupted run keeps those it has."""
    names = task.config.seen_architectures()
    clock = Clock(task.config.time_limit)
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
        logger.info("%s: validation AUROC %.4f", name, candidate.auroc)
        if candidate.stopped == "interrupted":
            break
    return found


def choose_best(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the highest held-out AUROC; the first named wins a tie."""
    # By AUROC: no threshold is chosen yet, and losses of different calibration cannot be compared.
    return max(candidates, key=lambda one: one.auroc)


def load_side(
    task: Task, records: Sequence[SliceRecord], image_size: int, with_twins: bool = False
) -> Samples:
    """The samples of some records, in this task's view.

    Raises:
        DataError: a vertebra is found in none of them.
    """
    cache = Path(task.config.cache)
    samples = load_samples(
        task.dataset, records, task.view, image_size, cache, with_twins, check_image
    )
    if records and not len(samples):
        raise DataError(
            "`data` must hold images in which a vertebra is found. Received: none among "
            f"{len(records)}, {records[0].path} the first; `--view slice` takes whole images"
        )
    return samples


def _fit_candidate(name: str, task: Task, clock: Clock, is_first: bool) -> Candidate:
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
        logits = result.held_out[result.best_epoch - 1]
    else:
        classifier, result, held_out, logits = _fit_folds(name, task, train, clock, is_first)
    seconds = time.monotonic() - began
    return Candidate(
        classifier, train, held_out, logits, result.history, result.best_epoch, result.stopped,
        seconds,
    )  # fmt: skip


def fit_once(
    name: str,
    config: TrainConfig,
    train: Samples,
    held_out: Samples | None,
    clock: Clock,
    folder: Path,
    until: Place | None = None,
) -> tuple[Classifier, FitResult]:
    """Build a fresh classifier and fit it; `until` says where to end, and turns patience off.

    A network without pre-trained weights learns as a whole from pixels; else the head learns on
    the frozen backbone and the top is tuned.
    """
    # Without this every fold's graph stays in memory until the run ends.
    keras.utils.clear_session()
    scratch = uses_scratch(name, config)
    with_map = scratch and train.masks is not None
    # From the crops, not from the settings: both must be the same, and only one is a fact.
    size = train.images.shape[1]
    # A set smaller than a batch is one batch, which the devices must be able to share.
    batch_size = min(config.batch_size, len(train))
    config = replace(config, batch_size=batch_size - batch_size % (config.devices or 1))
    weights = "none" if scratch else config.weights
    classifier = build_classifier(name, size, weights, config.seed, with_map, config.dropout)
    key = f"{name} {size} {train.key} {until} {classifier.origin}"
    folder.mkdir(parents=True, exist_ok=True)
    # A checkpoint that nobody asked for must not be gone on with by a later `--resume`.
    if not config.resume:
        for old in folder.glob("*.npz"):
            old.unlink()
    # Pre-trained weights: only what lies on top of them is learned, then their last block.
    if not scratch:
        stages = _transfer_plan(config, until)
        return classifier, fit_transfer(classifier, train, held_out, stages, clock, folder, key)
    plan = _plan(config, config.learning_rate, config.epochs or EPOCHS_SCRATCH)
    if until is not None:
        # A refit has nothing to judge on, so patience would mean nothing.
        plan = replace(plan, epochs=until[1], patience=None)
    augmented = config.augment
    result = fit_scratch(classifier, train, held_out, plan, augmented, clock, folder, key)
    return classifier, result


def uses_scratch(name: str, config: TrainConfig) -> bool:
    """Whether the network starts without pre-trained weights, and so learns as a whole."""
    return name == "cnn" or config.weights == "none"


def _plan(config: TrainConfig, rate: float, epochs: int) -> FitPlan:
    return FitPlan(
        epochs, config.batch_size, rate, config.seed, config.warmup, config.weight_decay,
        config.map_weight, config.map_positive_weight, config.patience,
    )  # fmt: skip


def _transfer_plan(config: TrainConfig, until: Place | None) -> TransferPlan:
    """Both stages; `until` ends the head (stage 0), or the tuning after a whole head (stage 1)."""
    head = _plan(config, config.head_learning_rate, config.epochs or EPOCHS_HEAD)
    tune = _plan(config, config.tune_learning_rate, config.tune_epochs)
    # Longer: at the start the optimizer knows nothing of weights that are good already.
    tune = replace(tune, warmup=0.1)
    if until is not None:
        stage, epoch = until
        head = replace(head, epochs=head.epochs if stage else epoch, patience=None)
        tune = replace(tune, epochs=epoch if stage else 0, patience=None)
    return TransferPlan(head, tune, config.augmented_copies if config.augment else 1,
                        Path(config.cache))  # fmt: skip


def _fit_folds(
    name: str, task: Task, everything: Samples, clock: Clock, is_first: bool
) -> tuple[Classifier, FitResult, Samples, np.ndarray]:
    """Leave out each fold in turn, then refit on all up to the median of the best epochs.

    The pooled scores are those of that epoch in every fold (the last, where a fold ended sooner),
    averaged over repeats, so that no fold picks its own best epoch. A fixed schedule is refitted in
    full. Interrupted, the folds that are done are judged, where they hold both classes and the
    candidate `is_first`: scores of other patients than another candidate's could not choose.
    """
    turns = list_turns(task, everything)
    results = _fit_each_fold(name, task, everything, turns, clock)
    is_whole = len(results) == len(turns)
    if not results or not (is_whole or is_first):
        raise KeyboardInterrupt
    # The median: one fold's lucky late epoch must not decide for all.
    place = find_median([result.best_place for _, result in results])
    logits, seen = pool_scores(results, len(everything), place)
    if not is_whole:
        if len(np.unique(everything.labels[seen])) < len(CLASS_NAMES):
            raise KeyboardInterrupt
        logger.info("%s: interrupted; %d of %d folds are judged, and all slices fitted once more. "
                    "Ctrl-C ends that too.", name, len(results), len(turns))  # fmt: skip
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
    return classifier, final, take_samples(everything, seen), logits[seen]


def list_turns(task: Task, everything: Samples) -> list[tuple[Fold, np.ndarray]]:
    """Each fold that can be judged, and which samples it leaves out, bool (N,).

    Raises:
        DataError: there is none.
    """
    turns = []
    for fold in task.split.folds or ():
        mine = np.isin(everything.groups, [record.patient_id for record in fold.held_out])
        if (mine & ~everything.is_twin).any() and not mine.all():
            turns.append((fold, mine))
        else:
            logger.warning("%s is not left out: no vertebra was found on a side", fold_name(fold))
    if not turns:
        raise DataError(
            "`data` must hold images in which a vertebra is found, of at least 2 patients. "
            "Received: fewer; `--view slice` takes whole images"
        )
    return turns


def _fit_each_fold(
    name: str,
    task: Task,
    everything: Samples,
    turns: Sequence[tuple[Fold, np.ndarray]],
    clock: Clock,
) -> list[tuple[np.ndarray, FitResult]]:
    """Which samples each turn judged, bool (N,), and its result; ends early when interrupted."""
    results: list[tuple[np.ndarray, FitResult]] = []
    for number, (fold, mine) in enumerate(turns):
        # One share more than there are folds: the last is for the refit on everything.
        part = clock.part(1.0 / (len(turns) + 1 - number))
        folder = task.run_dir / name / f"fold-{number}"
        try:
            train = take_samples(everything, ~mine)
            held_out = take_samples(everything, mine & ~everything.is_twin)
            _, result = fit_once(name, task.config, train, held_out, part, folder)
        except KeyboardInterrupt:
            break
        # A fold that learned less than the others says nothing of them.
        if result.stopped == "interrupted":
            break
        results.append((mine & ~everything.is_twin, result))
        logger.info("%s without %s: best epoch %d", name, fold_name(fold), result.best_epoch)
    return results


def fold_name(fold: Fold) -> str:
    """The fold's name and repeat, for people."""
    return f"{fold.name}, repeat {fold.repeat + 1}"


def find_median(places: Sequence[Place]) -> Place:
    """The middle one of the places in order; of two in the middle, the sooner."""
    # An observed place, where a mean of two might be in neither stage.
    return sorted(places)[(len(places) - 1) // 2]


def pool_scores(
    results: Sequence[tuple[np.ndarray, FitResult]], count: int, place: Place
) -> tuple[np.ndarray, np.ndarray]:
    """Mean held-out logits (N,) at `place`, and which samples have one, bool (N,)."""
    total, times = np.zeros(count), np.zeros(count, np.int64)
    for mine, result in results:
        total[mine] += result.logits_at(place)
        times[mine] += 1
    return np.divide(total, times, out=np.zeros(count), where=times > 0), times > 0


def take_samples(samples: Samples, chosen: np.ndarray) -> Samples:
    """The samples where the mask `chosen`, bool (N,), is set; pixels are copied into memory."""
    indices = np.flatnonzero(chosen)
    return replace(
        samples,
        images=samples.images[indices],
        labels=samples.labels[indices],
        masks=None if samples.masks is None else samples.masks[indices],
        groups=samples.groups[indices],
        slice_ids=samples.slice_ids[indices],
        widths_mm=samples.widths_mm[indices],
        is_twin=samples.is_twin[indices],
        image_ok=samples.image_ok[indices],
        records=tuple(samples.records[i] for i in indices) if samples.records else (),
        left_out=0,
    )
