"""Load a backbone's initial weights: ImageNet, a file in a folder, or none.

If the weights are unavailable, there is an error and no fallback. Files are read through
`safe_hdf5.py`, and only their weights are read. The model records the origin and the file's hash.
"""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import keras
from keras.src.backend.config import keras_home  # no public function tells it

from cspine.core.errors import ArtifactError, ConfigError
from cspine.model.networks.architectures import Architecture
from cspine.model.networks.backbones import number_layers
from cspine.model.safe_hdf5 import open_h5, read_layer
from cspine.model.store.hashes import hash_file

logger = logging.getLogger(__name__)


def keras_models_folder() -> Path:
    """Return the folder in which Keras keeps downloaded weights; `KERAS_HOME` can change it."""
    return Path(keras_home()) / "models"


def load_pretrained(
    backbone: keras.Model, architecture: Architecture, weights: str | Path
) -> dict[str, str | None]:
    """Give `backbone` its initial weights and return where they come from.

    Returns {"origin": "none" | "imagenet" | the folder's name, "sha256": of the file or None}.

    Raises:
        ConfigError: the file is unavailable or does not fit; the message says where it belongs.
    """
    path = find_pretrained(architecture, weights)
    if path is None:
        return {"origin": "none", "sha256": None}
    assign_pretrained(backbone, path)
    origin = "imagenet" if str(weights) == "imagenet" else Path(weights).resolve().name
    return {"origin": origin, "sha256": hash_file(path)}


def find_pretrained(architecture: Architecture, weights: str | Path) -> Path | None:
    """Return the file of a backbone's initial weights, downloaded if needed; None if random.

    Raises:
        ConfigError: the file is unavailable; the message says where it belongs.
    """
    if architecture.weights_file is None or str(weights) == "none":
        return None
    if str(weights) != "imagenet":
        path = Path(weights) / architecture.weights_file
    else:
        path = keras_models_folder() / architecture.weights_file
        if not path.is_file():
            _download(architecture)
    # Checked after the download, because Keras reports a failed download in several ways.
    _require_file(path, architecture)
    return path


def _download(architecture: Architecture) -> None:
    """Have Keras fetch ImageNet weights into its own folder; the caller checks for the file."""
    build = {
        "resnet50v2": keras.applications.ResNet50V2,
        "inceptionv3": keras.applications.InceptionV3,
        "xception": keras.applications.Xception,
    }[architecture.name]
    try:
        # The network is built only for the download and is discarded.
        build(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises bare Exception for a failed download
        logger.info("no ImageNet weights could be fetched: %s", error)


def _require_file(path: Path, architecture: Architecture) -> None:
    if not path.is_file():
        raise ConfigError(
            f"`--weights` for `{architecture.name}` needs the file {architecture.weights_file} in "
            f"{path.parent}. Received: no such file there, and it could not be fetched. Put it "
            "there, or use `--weights none` to start from random weights"
        )


def assign_pretrained(backbone: keras.Model, path: Path) -> None:
    """Copy a notop file's weights into `backbone`, whose layers were named by `backbones.py`.

    Raises:
        ConfigError: the file is unsafe, or its layers do not match the backbone's.
    """
    try:
        with open_h5(path) as file:
            # A file of a model keeps weights in a group, a file of weights keeps them at its root.
            root = file.get("model_weights", file)
            stored = number_layers(root)
            for layer in backbone.layers:
                # Only this program's layers are looked up; other objects of the file are not read.
                if layer.weights:
                    assign_weights(layer, root, stored.get(layer.name, layer.name))
    except ArtifactError as error:
        raise ConfigError(f"`--weights` file {path.name} cannot be used: {error}") from error


def assign_weights(layer: keras.Layer, root: h5py.Group, name: str) -> None:
    """Give `layer` the weights of the group `name` below `root`.

    Raises:
        ArtifactError: the group is missing, or its weights' names or shapes are not the layer's.
    """
    arrays = read_layer(root, name, {w.name: tuple(w.shape) for w in layer.weights})
    for variable in layer.weights:
        variable.assign(arrays[variable.name])
