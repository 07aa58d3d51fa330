"""Small networks of all four architectures, saved once for the session."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cspine.model.artifact import save_weights
from cspine.model.classifier import Classifier, build_classifier

SIZES = {"cnn": 64, "resnet50v2": 64, "inceptionv3": 75, "xception": 71}
DECISION = {"calibration": {"method": "platt", "scale": 1.0, "offset": 0.0}}
ARRAYS = {"in_distribution.mean": np.arange(5, dtype=np.float32)}


@dataclass(frozen=True)
class Saved:
    classifier: Classifier
    path: Path
    sha256: str
    images: np.ndarray


def unsettle(classifier: Classifier) -> None:
    """Move every norm and bias off its initial value, so that a mix-up of weights shows."""
    rng = np.random.default_rng(1)
    for variable in classifier.serving.weights:
        if variable.ndim == 1:
            variable.assign(variable.numpy() + rng.uniform(0.05, 0.5, variable.shape))
        elif variable.path.startswith(("logit", "fracture_map")):
            variable.assign(3 * variable.numpy())


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    made: dict[str, Saved] = {}

    def get(name: str) -> Saved:
        if name not in made:
            classifier = build_classifier(name, SIZES[name], seed=3, map_head=True)
            unsettle(classifier)
            path = tmp_path_factory.mktemp(name) / "best.h5"
            digest = save_weights(classifier, path, DECISION, ARRAYS, view="vertebra", note="demo")
            shape = (3, SIZES[name], SIZES[name], 3)
            images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            made[name] = Saved(classifier, path, digest, images)
        return made[name]

    return get
