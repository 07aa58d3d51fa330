"""Small networks of all four architectures and the files of one, saved once for the session."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from cspine.model.export.ir import export_ir
from cspine.model.export.quantise import quantise_ir
from cspine.model.networks.classifier import Classifier, build_classifier
from cspine.model.store.hashes import hash_file
from cspine.model.store.keras_weights import save_weights
from cspine.model.store.registry import ModelFiles, resolve_version

SIZES = {"cnn": 64, "resnet50v2": 64, "inceptionv3": 75, "xception": 71}
DECISION = {"calibration": {"method": "platt", "scale": 1.0, "offset": 0.0}}
ARRAYS = {"in_distribution_gains": np.arange(5, dtype=np.float32)}


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
            digest = save_weights(classifier, path, DECISION, ARRAYS, "vertebra", "real", "demo")
            shape = (3, SIZES[name], SIZES[name], 3)
            images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            made[name] = Saved(classifier, path, digest, images)
        return made[name]

    return get


@pytest.fixture(scope="session")
def files(saved, tmp_path_factory) -> ModelFiles:
    folder = tmp_path_factory.mktemp("engine")
    shutil.copy(saved("cnn").path, folder / "best.h5")
    export_ir(folder / "best.h5", folder)
    bare = resolve_version(folder)
    # As if a run had published it: what no card lists is made anew at each load.
    listed = {path.name: hash_file(path) for path in folder.glob("best.*")}
    return replace(bare, card={**bare.card, "files": listed})


@pytest.fixture(scope="session")
def quantised(files, tmp_path_factory) -> Path:
    """The folder of `files` with its int8 network."""
    folder = tmp_path_factory.mktemp("int8")
    for path in files.folder.glob("best.*"):
        shutil.copy(path, folder / path.name)
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8)
    quantise_ir(folder, files.h5_sha256, images)
    return folder


@pytest.fixture
def int8_files(files, quantised, tmp_path) -> ModelFiles:
    """A copy of `quantised` that a test may spoil."""
    shutil.copytree(quantised, tmp_path, dirs_exist_ok=True)
    listed = {path.name: hash_file(path) for path in tmp_path.glob("best*")}
    card = {**files.card, "files": listed}
    return replace(files, folder=tmp_path, h5=tmp_path / "best.h5", card=card)


@pytest.fixture
def victim(saved, tmp_path) -> Path:
    (tmp_path / "secret.txt").write_bytes(b"secret" * 10_000)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.ones((5, 5, 3, 16), "f4")
    shutil.copy(saved("cnn").path, tmp_path / "model.h5")
    return tmp_path / "model.h5"


@pytest.fixture
def models(tmp_path) -> Path:
    """Where versions are published; made by the first."""
    return tmp_path / "models"
