"""Open the model folder that the settings name, and load from it what is asked for.

Knows what makes a predictor of files and engine; `early.py` loads those, `models.py` knows which
predictor serves.
"""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

from cspine.core.settings import ServeSettings
from cspine.imaging.decode import Limits
from cspine.predict.predictor import Predictor
from cspine.serve.early import LoadedEngine, load_engine, stamp_card
from cspine.serve.models import ModelHolder
from cspine.serve.telemetry import Metrics


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
        return Predictor.from_engine(loaded.files, loaded.engine, limits, metrics.observe)

    def load(version: str | None) -> Predictor:
        return complete(load_engine(settings, version))

    # Its error is raised here, where the entry point turns it into one line.
    first = load_engine(settings) if early is None else early.result()
    folder = Path(settings.model_dir)
    return ModelHolder(complete(first), load, lambda: stamp_card(folder), first.stamp)
