"""Open the model folder that the settings name, and load from it what is asked for.

Knows where a model comes from and with which key it is signed; `models.py` knows which one serves.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cspine.core.errors import ConfigError
from cspine.core.settings import ServeSettings
from cspine.imaging.decode import Limits
from cspine.model.artifact import resolve_version
from cspine.model.card import CARD_NAME
from cspine.predict.predictor import Predictor
from cspine.serve.models import ModelHolder
from cspine.serve.telemetry import Metrics


def open_models(settings: ServeSettings, metrics: Metrics) -> ModelHolder:
    """Return the holder of the folder's newest model, which can load another.

    Raises:
        ArtifactError: the folder holds no model that may be served.
        ConfigError: `CSPINE_CARD_KEY` is no public key.
    """
    folder = Path(settings.model_dir)
    key = None if settings.card_key is None else read_public_key(Path(settings.card_key))
    limits = Limits(settings.max_bytes, settings.max_pixels)

    def load(version: str | None) -> Predictor:
        files = resolve_version(folder, version, key)
        return Predictor.from_files(
            files, settings.precision, settings.streams, limits, metrics.observe
        )

    return ModelHolder.open(load, lambda: stamp_card(folder))


def stamp_card(folder: Path) -> tuple[int, ...] | None:
    """Return a value that changes when `best.json` is replaced; None while there is none."""
    try:
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
