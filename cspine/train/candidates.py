"""One candidate: what it is given, what it gives, and one fit of it.

It knows nothing of other candidates, of folds, or of how the best is picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cspine.core.errors import DataError
from cspine.core.train_config import TrainConfig
from cspine.data.crop_cache import load_samples
from cspine.data.records import Dataset, SliceRecord
from cspine.data.samples import Samples
from cspine.data.split import Split
from cspine.decide.image_checks import check_image
from cspine.model.networks.classifier import Classifier, build_classifier
from cspine.stats.ranking import compute_auroc
from cspine.train.fitting.from_scratch import fit_scratch
from cspine.train.fitting.result import FitResult, Position
from cspine.train.fitting.trainer import FitPlan, TimeBudget
from cspine.train.fitting.transfer import TransferPlan, fit_transfer

# Where the user does not say; a time limit usually ends a run before.
EPOCHS_SCRATCH, EPOCHS_HEAD = 20, 20


@dataclass(frozen=True)
class RunContext:
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
    that were left out in turn, and `logits` (N,) what networks that had not seen them said. With
    folds `distances` float64 (N,) are how strange those found them, else None.
    """

    classifier: Classifier
    train: Samples
    held_out: Samples
    logits: np.ndarray
    history: list[dict[str, Any]]
    best_epoch: int
    stopped: str
    seconds: float
    distances: np.ndarray | None = None

    @property
    def auroc(self) -> float:
        """AUROC on the held-out slices."""
        return compute_auroc(self.held_out.labels, self.logits)


def load_side(
    task: RunContext, records: Sequence[SliceRecord], image_size: int, with_twins: bool = False
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


def fit_once(
    name: str,
    config: TrainConfig,
    train: Samples,
    held_out: Samples | None,
    clock: TimeBudget,
    folder: Path,
    until: Position | None = None,
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
        epochs,
        config.batch_size,
        rate,
        config.seed,
        config.warmup,
        config.weight_decay,
        config.map_weight,
        config.map_positive_weight,
        config.patience,
    )


def _transfer_plan(config: TrainConfig, until: Position | None) -> TransferPlan:
    """Both stages; `until` ends the head (stage 0), or the tuning after a whole head (stage 1)."""
    head = _plan(config, config.head_learning_rate, config.epochs or EPOCHS_HEAD)
    tune = _plan(config, config.tune_learning_rate, config.tune_epochs)
    # Longer: at the start the optimizer knows nothing of weights that are good already.
    tune = replace(tune, warmup=0.1)
    if until is not None:
        stage, epoch = until
        head = replace(head, epochs=head.epochs if stage else epoch, patience=None)
        tune = replace(tune, epochs=epoch if stage else 0, patience=None)
    return TransferPlan(
        head, tune, config.augmented_copies if config.augment else 1, Path(config.cache)
    )
