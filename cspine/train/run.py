"""One training run from data to a published version, as a sequence of steps.

The steps: check settings and data → audit → split → fit every candidate → score → control →
publish. The caller sets Keras's backend and logging first; messages for users go through logging.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ConfigError
from cspine.core.train_config import TrainConfig
from cspine.data.audit.audit import audit_first
from cspine.data.records import Dataset
from cspine.data.split import refuse_leaks, split_dataset
from cspine.imaging.decode import decode_image
from cspine.imaging.preprocess import default_view
from cspine.model.networks.architectures import ARCHITECTURES
from cspine.model.networks.pretrained import find_pretrained
from cspine.train.candidates import RunContext
from cspine.train.controls import run_random_labels
from cspine.train.model_selection import choose_best, fit_candidates
from cspine.train.preflight import check_run
from cspine.train.publish import RunResult, publish_run
from cspine.train.scoring import score_candidate

logger = logging.getLogger(__name__)


def run_training(config: TrainConfig, dataset: Dataset | None = None) -> RunResult:
    """Run a complete training; files go to `config.out`.

    `dataset` is the result of `check_run`, for callers that ran it before Keras was imported.

    Raises:
        ConfigError: a setting does not suit the architectures or the backend.
        DataError: the data cannot be read or split, or leak between the sides (SplitLeakError).
    """
    dataset = check_run(config) if dataset is None else dataset
    spread_over_devices(config.devices)
    # All files are found before the first fit, so that a missing one is not reported hours later.
    for name in config.seen_architectures():
        find_pretrained(ARCHITECTURES[name], config.weights)
    dataset, audit = audit_first(dataset, config.join_patients)
    context = prepare_run(config, dataset)
    # The choice comes before the scores on the test set, since it must not depend on them.
    candidates = fit_candidates(context)
    best_candidate = choose_best(candidates)
    scored = [score_candidate(candidate, context) for candidate in candidates]
    best = next(one for one in scored if one.candidate is best_candidate)
    # A candidate is missing only after an interrupt.
    is_partial = len(candidates) < len(config.seen_architectures())
    interrupted = is_partial or any(one.result.stopped == "interrupted" for one in candidates)
    extra: dict[str, Any] = {"audit": audit, "interrupted": interrupted}
    if config.controls:
        extra["controls"] = {
            "random_labels": run_random_labels(best_candidate, context),
            "shortcut_auroc": audit["shortcut_auroc"],
        }
    return publish_run(scored, best, context, extra)


def prepare_run(config: TrainConfig, dataset: Dataset) -> RunContext:
    """Split the data, refuse a split that leaks, choose the view, and make the run's folder."""
    split = split_dataset(dataset, config.split, config.seed)
    # Logged before hours of work, since the note says how many patients the figures are based on.
    logger.info("%s", split.note)
    # The data set's own split may leak, which the note states; a split by patient must not leak.
    if config.split == "grouped":
        refuse_leaks(split)
    view = config.view or _view_of(dataset)
    run_dir = Path(config.out) / "run"
    # Written before training, so that it exists even if the run is killed.
    with written_whole(run_dir / "manifest.csv") as part:
        part.write_text(split.manifest(), encoding="utf-8")
    config = replace(config, view=view)
    return RunContext(config=config, dataset=dataset, split=split, view=view, run_dir=run_dir)


def _view_of(dataset: Dataset) -> str:
    """Return the view that suits the data, by its layout and else by the size of one image."""
    if dataset.layout == "kaggle":
        return "slice"
    # The middle image, since the first and last by name are more often unusual.
    record = dataset.records[len(dataset.records) // 2]
    height, width = decode_image(dataset.read_bytes(record.path)).grey.shape
    return default_view(height, width)


def spread_over_devices(count: int | None) -> None:
    """Let Keras share every batch between `count` devices (JAX backend); None changes nothing.

    Raises:
        ConfigError: another backend, or fewer devices than asked for.
    """
    if count is None:
        return
    if keras.backend.backend() != "jax":
        received = keras.backend.backend()
        raise ConfigError(f"`devices` needs KERAS_BACKEND=jax. Received: {received}")
    found = keras.distribution.list_devices()
    if len(found) < count:
        raise ConfigError(
            f"`devices` must be at most {len(found)}, the number found. Received: {count}"
        )
    # Set before any network is built, since variables are distributed when they are created.
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found[:count]))
