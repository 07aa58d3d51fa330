"""The command `python -m cspine train`, which `train.py` calls: train and log the result."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from cspine.core.cli_flags import add_flags, config_from_namespace
from cspine.core.train_config import TrainConfig
from cspine.train.fitting.checkpoint import list_checkpoints
from cspine.train.preflight import check_run

logger = logging.getLogger(__name__)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train` to the commands of `python -m cspine`."""
    parser = subparsers.add_parser("train")
    add_flags(parser)
    parser.set_defaults(run=lambda given: train(config_from_namespace(given)))


def train(config: TrainConfig) -> int:
    """Run one training and log its result; return 1 if a required bar was missed, else 0.

    Raises:
        KeyboardInterrupt: after Ctrl-C, if there was no complete network to publish.
    """
    began_s = time.time()
    dataset = check_run(config)
    # Imported only now, because it imports Keras, which takes seconds; other commands and mistyped
    # settings need not wait for that.
    from cspine.train.run import run_training

    try:
        result = run_training(config, dataset)
    except KeyboardInterrupt:
        # Older checkpoints may be of a run with other settings, except if this run resumed them.
        found = list_checkpoints(Path(config.out))
        if config.resume or any(one.stat().st_mtime >= began_s for one in found):
            logger.info("Use `--resume` to continue from the checkpoints in %s/run.", config.out)
        raise
    for row in result.rows:
        # The chosen candidate is marked, since two may have the same validation AUROC.
        mark = "→" if row["chosen"] else " "
        logger.info(
            "%s %-12s validation AUROC %.4f on %s",
            mark,
            row["architecture"],
            row["validation_auroc"],
            result.held_out,
        )
    for line in result.missed:
        logger.error("%s", line)
    if result.version is None:
        logger.error(
            "Not published: the trained model and its report are in %s/run/staging.", config.out
        )
        return 1
    logger.info(
        "Published version %s in %s; its report is %s/report/index.html.",
        result.version,
        config.out,
        config.out,
    )
    return 0
