"""The network of the model folder, loaded before the rest of the service is even imported.

Compiling a network is OpenVINO's work, outside Python; importing Flask, SciPy and the views is
Python's. Side by side they take about as long as the longer of them, so this module imports neither
Flask nor SciPy. Which answers the network's numbers give is `predict`'s to know.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cspine.core.errors import ConfigError
from cspine.core.serve_settings import ServeSettings
from cspine.model.engine.engine import Engine
from cspine.model.engine.network_files import choose_precision
from cspine.model.store.card import CARD_NAME
from cspine.model.store.registry import ModelFiles, resolve_version


@dataclass(frozen=True)
class LoadedEngine:
    """The files of one version, its warmed engine, and the folder's stamp from before the load."""

    files: ModelFiles
    engine: Engine
    stamp: tuple[int, ...] | None


def begin_engine(settings: ServeSettings) -> Future[LoadedEngine]:
    """Start loading the folder's newest model on a thread; the future raises as `load_engine`."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="load")
    future = pool.submit(load_engine, settings)
    # The thread ends with its one task.
    pool.shutdown(wait=False)
    return future


def load_engine(
    settings: ServeSettings, version: str | None = None, or_older: bool = True
) -> LoadedEngine:
    """Load one version, by default the one that `best.json` names, or else an older one.

    Raises:
        ArtifactError: the folder holds no model that may be served.
        ConfigError: `CSPINE_CARD_KEY` is no public key.
    """
    folder = Path(settings.model_dir)
    key = None if settings.card_key is None else read_public_key(Path(settings.card_key))
    # Before: a model published meanwhile is one more than was seen.
    stamp = stamp_card(folder)
    files = resolve_version(folder, version, key, or_older)
    precision = choose_precision(files.card, settings.precision)
    return LoadedEngine(files, Engine.load(files, precision, settings.streams), stamp)


def stamp_card(folder: Path) -> tuple[int, ...] | None:
    """Return a value that changes when `best.json` is replaced; None while there is none."""
    try:
        # The inode as well: a rename within the clock's resolution leaves time and size alike.
        state = (folder / CARD_NAME).stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def read_public_key(path: Path) -> bytes:
    """Return the 32 raw bytes of an Ed25519 public key in a PEM file.

    Raises:
        ConfigError: the file cannot be read, or holds no such key.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(
            f"`CSPINE_CARD_KEY` must be a PEM file of an Ed25519 public key. Received: {path}"
        )
    return key.public_bytes_raw()
