"""Checkpoint file of a fit, written after each epoch, so that a killed run loses at most one epoch.

It holds the variables of network and optimizer in their own order, the best weights so far, the
history, and a key that identifies the fit.
"""

from __future__ import annotations

import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a fit after an epoch.

    `key` identifies the fit's settings and data; `history` has one dict per epoch; `best` are the
    network's weights at the best epoch; `held_out` float32 (epochs, M) are the held-out logits.
    """

    key: str
    history: list[dict[str, Any]]
    network: list[np.ndarray]
    optimizer: list[np.ndarray]
    best: list[np.ndarray]
    held_out: np.ndarray


def write_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write `path` (.npz) completely or not at all."""
    arrays = {
        f"{name}_{number:04d}": array
        for name in ("network", "optimizer", "best")
        for number, array in enumerate(getattr(state, name))
    }
    head = json.dumps({"key": state.key, "history": state.history})
    with written_whole(path) as part:
        # An .npz holds arrays only, so the text is an array of one string.
        np.savez(part, head=np.array(head), held_out=state.held_out, **arrays)


def list_checkpoints(out: Path) -> list[Path]:
    """Return the checkpoints that runs into the models folder `out` have left, sorted."""
    found = (out / "run").rglob("*.npz")
    # A hidden file is incomplete, because its run was killed while writing it.
    return sorted(path for path in found if not path.name.startswith("."))


def read_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """Return the checkpoint in `path`, or None if there is none or it belongs to another fit.

    Raises:
        ConfigError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return _read(path, key)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"`--resume` needs whole checkpoints. Received: {path} ({error}). Remove the file, "
            "or run without `--resume`"
        ) from error


def _read(path: Path, key: str) -> Checkpoint | None:
    # No pickles, since a checkpoint from elsewhere must not run code.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        head = json.loads(str(file["head"]))
        # Continuing from another fit's checkpoint would mix two fits.
        if head["key"] != key:
            logger.warning(
                "%s belongs to other settings or data, so this fit starts from the beginning", path
            )
            return None
        parts = {
            # The numbers have leading zeros, so the sorted names are in numeric order.
            part: [file[name] for name in sorted(file.files) if name.startswith(f"{part}_")]
            for part in ("network", "optimizer", "best")
        }
        return Checkpoint(head["key"], head["history"], held_out=file["held_out"], **parts)
