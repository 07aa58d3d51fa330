"""Candidates of a run: the data that they share, a fitted candidate, and a function for one fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from cspine.core.errors import DataError
from cspine.core.train_config import TrainConfig
from cspine.data.crop_cache import load_samples
from cspine.data.records import Dataset, SliceRecord
from cspine.data.samples import Samples
from cspine.data.split import Split
from cspine.decide.image_checks import check_image
from cspine.model.networks.architectures import choose_revision
from cspine.model.networks.classifier import Classifier, build_classifier
from cspine.stats.ranking import compute_auroc
from cspine.train.fitting.augment_slices import augment_slices
from cspine.train.fitting.batches import Augment, choose_augment
from cspine.train.fitting.from_scratch import fit_scratch
from cspine.train.fitting.result import FitResult, Position
from cspine.train.fitting.trainer import FitPlan, TimeBudget
from cspine.train.fitting.transfer import TransferPlan, fit_transfer

# Epochs if the user sets none; a time limit usually ends a run earlier.
EPOCHS_SCRATCH, EPOCHS_HEAD = 20, 20
# Strongly augmented slices need a number of steps rather than of epochs: about so many images, in
# at least so many epochs.
SLICE_IMAGES, MIN_SLICE_EPOCHS = 25_600, 5


@dataclass(frozen=True)
class RunContext:
    """Settings, data and folders that all candidates of a run share."""

    config: TrainConfig
    dataset: Dataset
    split: Split
    view: str
    run_dir: Path

    def load(
        self, records: Sequence[SliceRecord], image_size: int, with_twins: bool = False
    ) -> Samples:
        """Return the samples of some records in the run's view; there may be none."""
        return load_samples(
            self.dataset,
            records,
            self.view,
            image_size,
            Path(self.config.cache),
            with_twins,
            check_image,
        )


@dataclass(frozen=True)
class Candidate:
    """One fitted network and its scores on data that it was not fitted on.

    `train` includes twins, which are the same slices without their fractures. `held_out` are the
    validation slices or, with folds, the slices that were left out in turn. Each of `logits` (N,)
    is from networks that were not fitted on that slice. `distances` float64 (N,) say how far each
    held-out slice is, in a network's embedding, from that network's training data; None if
    `classifier` did not learn from the held-out slices.
    """

    classifier: Classifier
    train: Samples
    held_out: Samples
    logits: np.ndarray
    result: FitResult
    seconds: float
    distances: np.ndarray | None = None

    @property
    def auroc(self) -> float:
        """AUROC on the held-out slices."""
        return compute_auroc(self.held_out.labels, self.logits)


def load_side(
    context: RunContext,
    records: Sequence[SliceRecord],
    image_size: int,
    with_twins: bool = False,
) -> Samples:
    """Return the samples of one side of the split.

    Raises:
        DataError: no vertebra is found in any of the records.
    """
    samples = context.load(records, image_size, with_twins)
    if records and not len(samples):
        raise DataError(
            "`data` must hold images in which a vertebra is found. Received: none in "
            f"{len(records)} images, such as {records[0].path}. Use `--view slice` to train on "
            "whole slices"
        )
    return samples


def fit_once(
    name: str,
    config: TrainConfig,
    train: Samples,
    held_out: Samples | None,
    budget: TimeBudget,
    folder: Path,
    until: Position | None = None,
) -> tuple[Classifier, FitResult]:
    """Build a fresh classifier and fit it; `until` sets the last epoch and turns patience off.

    If a network has no pre-trained weights, all its layers learn from pixels. If it has, the head
    learns on the frozen backbone, and then the top of the backbone is tuned.
    """
    # Without this, every fold's graph would stay in memory until the run ends.
    keras.utils.clear_session()
    from_scratch = name == "cnn" or config.weights == "none"
    # The size of the crops, because the setting may be None (the architecture's own size).
    size = train.images.shape[1]
    # A set smaller than a batch becomes one batch, which must divide evenly between the devices.
    batch_size = min(config.batch_size, len(train))
    config = replace(config, batch_size=batch_size - batch_size % (config.devices or 1))
    with_masks = train.masks is not None
    classifier = build_classifier(
        name,
        size,
        "none" if from_scratch else config.weights,
        config.seed,
        map_head=from_scratch and with_masks,
        dropout=config.dropout,
        revision=choose_revision(name, config.view or "vertebra", with_masks),
    )
    augment = choose_augment(config.view, with_masks) if config.augment else None
    key = f"{name} {size} {train.key} {until} {classifier.origin}"
    folder.mkdir(parents=True, exist_ok=True)
    # Old checkpoints are removed, so that a later `--resume` does not mix them with this run's.
    if not config.resume:
        for old in folder.glob("*.npz"):
            old.unlink()
    if not from_scratch:
        stages = _transfer_plan(config, until, augment)
        return classifier, fit_transfer(classifier, train, held_out, stages, budget, folder, key)
    epochs = config.epochs or count_epochs(len(train), augment)
    plan = _plan(config, config.learning_rate, epochs)
    if augment is augment_slices:
        # A third of the epochs, since with few slices an epoch has few steps.
        plan = replace(plan, patience=max(config.patience, epochs // 3))
    if until is not None:
        # A refit has no held-out data, so patience would mean nothing.
        plan = replace(plan, epochs=until[1], patience=None)
    return classifier, fit_scratch(classifier, train, held_out, plan, augment, budget, folder, key)


def count_epochs(count: int, augment: Augment | None) -> int:
    """Return the number of epochs of a network that learns from scratch on `count` images."""
    if augment is not augment_slices:
        return EPOCHS_SCRATCH
    return max(MIN_SLICE_EPOCHS, round(SLICE_IMAGES / count))


def _plan(config: TrainConfig, rate: float, epochs: int) -> FitPlan:
    return FitPlan(
        epochs=epochs,
        batch_size=config.batch_size,
        learning_rate=rate,
        seed=config.seed,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        map_weight=config.map_weight,
        map_positive_weight=config.map_positive_weight,
        patience=config.patience,
    )


def _transfer_plan(
    config: TrainConfig, until: Position | None, augment: Augment | None
) -> TransferPlan:
    """Return the plans of both stages; `until` ends stage 0 (the head) or stage 1 (the tuning)."""
    head = _plan(config, config.head_learning_rate, config.epochs or EPOCHS_HEAD)
    tune = _plan(config, config.tune_learning_rate, config.tune_epochs)
    # Tuning has a longer warm-up, since its weights are already good and the optimizer's moments
    # are still zero.
    tune = replace(tune, warmup=0.1)
    if until is not None:
        stage, epoch = until
        head = replace(head, epochs=head.epochs if stage else epoch, patience=None)
        tune = replace(tune, epochs=epoch if stage else 0, patience=None)
    copies = config.augmented_copies if augment else 1
    return TransferPlan(head, tune, copies, augment, Path(config.cache))
