"""From an architecture's name to its graph of layers, each with its scaling inside.

Every backbone takes pixels 0–255, three channels, and gives its last feature map. The three
published ones are Keras's own, without the top and without weights: where weights come from is
`pretrained.py`'s to know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import layers

from cspine.model.networks.architectures import ARCHITECTURES, check_image_size, find_architecture
from cspine.model.networks.cnn import build_cnn

__all__ = ["ARCHITECTURES", "build_backbone", "check_image_size", "find_architecture"]

# Keras's names for layers that were given none; the first of a kind has no number.
_AUTOMATIC_NAME = re.compile(
    r"(conv2d|separable_conv2d|batch_normalization|activation|add|concatenate"
    r"|max_pooling2d|average_pooling2d)(?:_(\d+))?"
)


def _published(build: Callable[..., keras.Model]) -> Callable[[Any], Any]:
    """A function from scaled pixels to the last feature map of a network of keras.applications."""

    def apply(scaled: Any) -> Any:
        # `weights=None` always: a download in here would be a silent one.
        network = build(include_top=False, weights=None, input_tensor=scaled)
        _name_layers(network)
        return network.output

    return apply


def _name_layers(network: keras.Model) -> None:
    """Rename the layers that Keras named by itself, see `number_layers`."""
    names = {new: old for old, new in number_layers(one.name for one in network.layers).items()}
    for layer in network.layers:
        layer.name = names.get(layer.name, layer.name)


def number_layers(names: Iterable[str]) -> dict[str, str]:
    """Names that do not depend on what else was built, mapped to Keras's automatic ones.

    Keras numbers unnamed layers over the whole process: `conv2d`, `conv2d_1`, …, or from any later
    number. The n-th of them built becomes `auto_conv2d_n`, in a network as in a file.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = _AUTOMATIC_NAME.fullmatch(name)
        if match:
            found.setdefault(match[1], []).append((int(match[2] or 0), name))
    return {
        f"auto_{kind}_{place}": name
        # Sorted by number and not by name: `conv2d_10` comes after `conv2d_9`.
        for kind, numbered in found.items()
        for place, (_, name) in enumerate(sorted(numbered), start=1)
    }


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "cnn": build_cnn,
    "resnet50v2": _published(keras.applications.ResNet50V2),
    "inceptionv3": _published(keras.applications.InceptionV3),
    "xception": _published(keras.applications.Xception),
}


def build_backbone(name: str, image_size: int) -> keras.Model:
    """Build pixels float32 (B, S, S, 3) in 0…255 → the last feature map (B, h, w, D).

    Weights are random, by the global seed. The scaling is each network's published one, which for
    all of them is x / 127.5 − 1 (Keras's mode "tf"; Chollet 2017, Szegedy 2016, He 2016b).

    Raises:
        ConfigError: the name is unknown, or the size (pixels a side) is too small for it.
    """
    check_image_size(name, image_size)
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    # Inside the graph, so that training, serving and any export take the same pixels.
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, name="scaling")(pixels)
    return keras.Model(pixels, _BUILDERS[name](scaled), name=f"{name}_backbone")
