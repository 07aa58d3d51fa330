"""Open the model folder that the settings name, and load from it what is asked for.

Knows what makes a predictor of files and engine; `early.py` loads those, `models.py` knows which
predictor serves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from cspine.core.errors import ArtifactError
from cspine.core.serve_settings import ServeSettings
from cspine.imaging.decode import Limits
from cspine.model.store.registry import list_versions
from cspine.predict.predictor import Predictor
from cspine.serve.early import LoadedEngine, load_engine, stamp_card
from cspine.serve.models import ModelHolder
from cspine.serve.telemetry import Metrics

logger = logging.getLogger(__name__)


def open_models(
    settings: ServeSettings, metrics: Metrics, early: Future[LoadedEngine] | None = None
) -> ModelHolder:
    """Return the holder of the folder's newest model, which can load another.

    `early` is the load that `early.py` began, where one was begun.

    Raises:
        ArtifactError: the folder holds no model that may be served.
        ConfigError: `CSPINE_CARD_KEY` is no public key.
    """
    # The same limits for every model that is ever loaded.
    limits = Limits(settings.max_bytes, settings.max_pixels)

    def complete(loaded: LoadedEngine) -> Predictor:
        return Predictor.from_engine(
            loaded.files,
            loaded.engine,
            limits=limits,
            observe=metrics.observe,
            answer_synthetic=settings.answer_synthetic,
        )

    def load(version: str | None) -> Predictor:
        # A bad card must not bring back what an operator has rolled away from.
        return complete(load_engine(settings, version, or_older=False))

    folder = Path(settings.model_dir)
    # From before: a model published meanwhile is one more than was seen.
    stamp = stamp_card(folder)
    try:
        first = load_engine(settings) if early is None else early.result()
        stamp = first.stamp
        predictor = complete(first)
    except ArtifactError as error:
        # Raised, where the entry point turns it into one line, unless an older model serves.
        predictor = _open_older(folder, load, error, metrics)
    return ModelHolder(predictor, load, lambda: stamp_card(folder), stamp)


def _open_older(
    folder: Path, load: Callable[[str], Predictor], refused: ArtifactError, metrics: Metrics
) -> Predictor:
    """Return the latest kept version that loads and passes its own test.

    Raises:
        ArtifactError: `refused`, since there is none.
    """
    for version in list_versions(folder):
        try:
            predictor = load(version)
        except ArtifactError as error:
            logger.error("the kept version %s does not serve: %s", version, error)
            continue
        logger.error("the newest model was refused, %s serves instead: %s", version, refused)
        metrics.count_refusal()
        return predictor
    raise refused
