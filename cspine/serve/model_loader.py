"""Load the model from the folder in the settings, at the start and again on request.

OpenVINO compiles a network outside Python, so Python can import Flask, SciPy and the routes at the
same time. For this, `start_loading` runs before the rest of the service is imported, and modules
that import SciPy are imported within functions here.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cspine.core.errors import ArtifactError, ConfigError
from cspine.core.serve_settings import ServeSettings
from cspine.model.engine.engine import Engine
from cspine.model.engine.network_files import choose_precision
from cspine.model.store.card import CARD_NAME
from cspine.model.store.registry import ModelFiles, list_versions, resolve_version
from cspine.serve.telemetry import Metrics

if TYPE_CHECKING:
    from cspine.predict.predictor import Predictor
    from cspine.serve.hot_reload import ModelManager

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedEngine:
    """The files of one version, its warmed engine, and the folder's stamp before the load."""

    files: ModelFiles
    engine: Engine
    stamp: tuple[int, ...] | None


def start_loading(settings: ServeSettings) -> Future[LoadedEngine]:
    """Start `load_engine` for the folder's newest model on a thread, and return the future."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="load")
    future = pool.submit(load_engine, settings)
    # The thread ends after its one task.
    pool.shutdown(wait=False)
    return future


def load_engine(
    settings: ServeSettings, version: str | None = None, or_older: bool = True
) -> LoadedEngine:
    """Load one version of the folder.

    Args:
        settings: name the folder, the precision and the streams.
        version: a kept version; by default the version that `best.json` names.
        or_older: whether an older version may be loaded if the wanted version is damaged.

    Raises:
        ArtifactError: the folder holds no model that may be served.
        ConfigError: `CSPINE_CARD_KEY` is not a public key.
    """
    folder = Path(settings.model_dir)
    key = None if settings.card_key is None else read_public_key(Path(settings.card_key))
    # The stamp is taken before the load, so that a model published meanwhile is noticed.
    stamp = stamp_card(folder)
    files = resolve_version(folder, version, key, or_older)
    precision = choose_precision(files.card, settings.precision)
    return LoadedEngine(files, Engine.load(files, precision, settings.streams), stamp)


def stamp_card(folder: Path) -> tuple[int, ...] | None:
    """Return a value that changes when `best.json` is replaced; None if the file is missing."""
    try:
        # The inode counts too, because a file renamed within the clock's resolution may have the
        # same time and size.
        state = (folder / CARD_NAME).stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


class ModelLoader:
    """Loads the versions of one model folder as predictors.

    Args:
        settings: name the folder and the limits of an image.
        metrics: observe each stage of a prediction.
    """

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._folder = Path(settings.model_dir)

    def load(self, version: str | None) -> Predictor:
        """Load a kept version, or the newest version for None.

        An older version is never loaded in its place. If it were, a damaged card would undo an
        operator's rollback.

        Raises:
            ArtifactError: there is no such version, or it fails its own test.
        """
        return self.complete(load_engine(self._settings, version, or_older=False))

    def complete(self, loaded: LoadedEngine) -> Predictor:
        """Return the predictor of a loaded engine.

        Raises:
            ArtifactError: the network is not the network that the card describes.
        """
        # Both imports load SciPy, so they are deferred to shorten the start.
        from cspine.imaging.decode import Limits
        from cspine.predict.predictor import Predictor

        return Predictor.from_engine(
            loaded.files,
            loaded.engine,
            limits=Limits(self._settings.max_bytes, self._settings.max_pixels),
            observe=self._metrics.observe,
            answer_synthetic=self._settings.answer_synthetic,
        )

    def stamp(self) -> tuple[int, ...] | None:
        """Return a value that changes when a model is published; None if `best.json` is missing."""
        return stamp_card(self._folder)

    def load_older(self, refused: ArtifactError) -> Predictor:
        """Load the latest kept version that passes its own test.

        Args:
            refused: the error with which the newest version was refused.

        Raises:
            ArtifactError: `refused` itself, if no kept version passes.
        """
        for version in list_versions(self._folder):
            try:
                predictor = self.load(version)
            except ArtifactError as error:
                logger.error("the kept version %s cannot be served: %s", version, error)
                continue
            logger.error("the newest model was refused; %s is served instead: %s", version, refused)
            self._metrics.count_refused_model()
            return predictor
        raise refused


def open_models(
    settings: ServeSettings, metrics: Metrics, loading: Future[LoadedEngine] | None = None
) -> ModelManager:
    """Return a manager that serves the folder's newest model and can load another one.

    Args:
        settings: name the folder.
        metrics: count loads and observe each stage of a prediction.
        loading: the result of `start_loading`, if it was called.

    Raises:
        ArtifactError: the folder holds no model that may be served.
        ConfigError: `CSPINE_CARD_KEY` is not a public key.
    """
    from cspine.serve.hot_reload import ModelManager  # deferred: imports SciPy

    loader = ModelLoader(settings, metrics)
    # The stamp is taken before the load, so that a model published meanwhile is noticed.
    stamp = loader.stamp()
    try:
        first = load_engine(settings) if loading is None else loading.result()
        stamp = first.stamp
        predictor = loader.complete(first)
    except ArtifactError as error:
        # If no older model can be served, this raises `error` again for the entry point to print.
        predictor = loader.load_older(error)
    return ModelManager(
        predictor,
        load=loader.load,
        stamp=loader.stamp,
        seen=stamp,
        on_swap=metrics.count_swap,
        on_refusal=metrics.count_refused_model,
    )


def read_public_key(path: Path) -> bytes:
    """Return the 32 raw bytes of an Ed25519 public key in a PEM file.

    Raises:
        ConfigError: the file cannot be read, or holds another kind of text or key.
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
