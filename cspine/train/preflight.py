"""Checks before Keras is imported: refuse settings that cannot work, and find the data.

Importing Keras takes seconds, or a minute on a busy machine, and TensorFlow prints its own lines. A
user who misspelt a folder gets a single line immediately.
"""

from __future__ import annotations

import logging
from pathlib import Path

from cspine.core.errors import ConfigError
from cspine.core.train_config import TrainConfig
from cspine.data.domain import find_data_domain
from cspine.data.records import Dataset
from cspine.data.sources import resolve_data
from cspine.evaluate.metrics import METRICS
from cspine.model.networks.architectures import ARCHITECTURES, check_image_size
from cspine.phantom.config import PhantomConfig
from cspine.train.fitting.checkpoint import list_checkpoints

logger = logging.getLogger(__name__)

BUILD_DIR = Path("build")


def check_run(config: TrainConfig) -> Dataset:
    """Return the data set of a run whose settings have been checked, and log which it is.

    Raises:
        ConfigError: a setting cannot work, and might fail only after hours of work.
        DataError: the data are unavailable or invalid.
    """
    # Settings are checked first, since a download or a phantom set takes minutes.
    check_config(config)
    phantom = PhantomConfig(patients=config.patients, seed=config.phantom_seed)
    dataset, line = resolve_data(
        config.data, BUILD_DIR, phantom, config.skip_unreadable, config.accept_blank
    )
    logger.info("%s", line)
    # Checked before hours of work: data sets whose domain is mixed or unclear are refused.
    logger.info("The images are %s.", find_data_domain(dataset))
    if config.resume and not list_checkpoints(Path(config.out)):
        logger.warning(
            "There is no checkpoint in %s/run: `--resume` starts from the beginning.", config.out
        )
    return dataset


def check_config(config: TrainConfig) -> None:
    """Refuse an image size, a metric, a batch or a folder that no run could use.

    Raises:
        ConfigError: a setting is wrong; the message names it and its value.
    """
    for name in config.seen_architectures():
        if config.image_size is not None:
            check_image_size(name, config.image_size)
    # Data parallelism divides each batch into equal parts.
    if config.devices and config.batch_size % config.devices:
        raise ConfigError(
            f"`batch_size` must be a multiple of `devices`, {config.devices}. "
            f"Received: {config.batch_size}"
        )
    for metric, _ in config.require:
        if metric not in METRICS:
            raise ConfigError(
                f"`require` must name one of {', '.join(METRICS)}. Received: {metric}"
            )
    for name, place in (("out", Path(config.out)), ("cache", Path(config.cache))):
        if place.exists() and not place.is_dir():
            raise ConfigError(f"`{name}` must be a folder. Received: {place} (a file)")
    if config.weights not in ("imagenet", "none"):
        _check_weights(config)


def _check_weights(config: TrainConfig) -> None:
    """Refuse a weights folder that does not exist or lacks the file of a candidate."""
    if not Path(config.weights).is_dir():
        raise ConfigError(
            "`weights` must be `imagenet`, `none` or a folder of Keras's *_notop.h5 files. "
            f"Received: {config.weights} (no such folder)"
        )
    files = (ARCHITECTURES[name].weights_file for name in config.seen_architectures())
    missing = [file for file in files if file and not (Path(config.weights) / file).is_file()]
    if missing:
        raise ConfigError(
            f"`weights` must hold a file for each candidate. Received: {config.weights}, without "
            f"{', '.join(missing)}"
        )
