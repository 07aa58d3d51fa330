"""cspine: trains and serves a classifier of cervical-spine CT images. Not a medical device.

The subpackages follow the pipeline: data → model → train → evaluate → export → predict → serve.
Each imports only lower ones; `tests/test_architecture.py` checks that. Use from Python:

    import cspine

    predictor = cspine.load("models")
    prediction = predictor.predict(Path("slice.dcm").read_bytes())
    print(prediction.prediction, prediction.probability)

Neither the import nor `load` imports Keras: the network runs on OpenVINO.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Unpack

    from cspine.predict.predictor import Options, Predictor

__all__ = ["__version__", "load"]

# `pyproject.toml` reads the version from here.
__version__ = "0.1.0"


def load(
    models_dir: str | Path,
    *,
    precision: str = "auto",
    streams: int | None = None,
    **options: Unpack[Options],
) -> Predictor:
    """Return the predictor of the newest version in `models_dir` whose hashes match.

    Args:
        models_dir: the folder of `best.h5` and `best.json`.
        precision: `auto`, `f32`, `bf16` or `int8`; `auto` takes the fastest one that
            training found to be accurate enough.
        streams: parallel inferences; by default one per core.
        options: those of `Predictor`: `limits`, `observe`, `answer_synthetic`.

    Raises:
        ArtifactError: there is no model, or none that may be loaded.
    """
    # This import loads NumPy, SciPy and OpenVINO, which a mere `import cspine` does not need.
    from cspine.predict.predictor import Predictor

    return Predictor.load(Path(models_dir), precision, streams, **options)
