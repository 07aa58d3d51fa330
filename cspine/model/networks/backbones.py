"""Build the backbone of an architecture: a graph of layers that includes the pixel scaling.

Every backbone takes pixels 0–255 in three channels and returns its last feature map. Apart from
`cnn`, the backbones are Keras's own, without the top and without weights; `pretrained.py` loads
the weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import layers

from cspine.model.networks.architectures import ARCHITECTURES, check_image_size, find_architecture
from cspine.model.networks.cnn import build_cnn
from cspine.model.networks.slice_cnn import build_slice_cnn

__all__ = ["ARCHITECTURES", "build_backbone", "check_image_size", "find_architecture"]

# Names that Keras gives to unnamed layers; the first of each kind has no number.
_AUTOMATIC_NAME = re.compile(
    r"(conv2d|separable_conv2d|batch_normalization|activation|add|concatenate"
    r"|max_pooling2d|average_pooling2d)(?:_(\d+))?"
)


def _published(build: Callable[..., keras.Model]) -> Callable[[Any], Any]:
    """Return a function that applies a network of keras.applications to scaled pixels."""

    def apply(scaled: Any) -> Any:
        # Always `weights=None`, since otherwise Keras would download weights silently.
        network = build(include_top=False, weights=None, input_tensor=scaled)
        _name_layers(network)
        return network.output

    return apply


def _name_layers(network: keras.Model) -> None:
    """Rename the layers that Keras named automatically; see `number_layers`."""
    names = {new: old for old, new in number_layers(one.name for one in network.layers).items()}
    for layer in network.layers:
        layer.name = names.get(layer.name, layer.name)


def number_layers(names: Iterable[str]) -> dict[str, str]:
    """Map layer names that do not depend on other networks to Keras's automatic names.

    Keras numbers unnamed layers across the process: `conv2d`, `conv2d_1`, …, or from any later
    number. The n-th such layer becomes `auto_conv2d_n`, both in a network and in a weights file.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = _AUTOMATIC_NAME.fullmatch(name)
        if match:
            found.setdefault(match[1], []).append((int(match[2] or 0), name))
    return {
        f"auto_{kind}_{place}": name
        # Sorted by number, since by name `conv2d_10` would come before `conv2d_9`.
        for kind, numbered in found.items()
        for place, (_, name) in enumerate(sorted(numbered), start=1)
    }


# One builder for each revision of an architecture, in their order.
_BUILDERS: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "cnn": (build_cnn, build_slice_cnn),
    "resnet50v2": (_published(keras.applications.ResNet50V2),),
    "inceptionv3": (_published(keras.applications.InceptionV3),),
    "xception": (_published(keras.applications.Xception),),
}


def build_backbone(name: str, image_size: int, revision: int = 1) -> keras.Model:
    """Build a network: pixels float32 (B, S, S, 3) in 0…255 → the last feature map (B, h, w, D).

    Weights are random and depend on Keras's global seed. All networks scale pixels as published:
    x / 127.5 − 1 (Keras's mode "tf"; Chollet 2017, Szegedy 2016, He 2016b). `revision` counts from
    1 to the architecture's `revisions`.

    Raises:
        ConfigError: the name is unknown, or the size (pixels per side) is too small for it.
    """
    check_image_size(name, image_size)
    pixels = keras.Input((image_size, image_size, 3), name="pixels")
    # The scaling is inside the graph, so that training, serving and exports take the same pixels.
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, name="scaling")(pixels)
    return keras.Model(pixels, _BUILDERS[name][revision - 1](scaled), name=f"{name}_backbone")
