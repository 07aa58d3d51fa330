"""A backbone and the one head: the graphs that are trained, saved and served, sharing layers.

backbone → global average pooling (`embedding`) → dropout → Dense(1) (`logit`) → sigmoid. Because
the head is linear in the average, the same Dense applied to each cell of the last feature map is
the class activation map (Zhou et al. 2016) and its mean over the cells is the logit exactly: one
pass gives the answer and its explanation. The map head is a 1 × 1 convolution at stride 8.

Files are read and written by `keras_weights.py`, and losses are the trainer's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from cspine.model.networks.architectures import MAP_STRIDE, find_architecture
from cspine.model.networks.backbones import build_backbone
from cspine.model.networks.cnn import ATTENTION_LAYER
from cspine.model.networks.pretrained import load_pretrained

LOGIT_LAYER = "logit"


@dataclass(frozen=True)
class Classifier:
    """The graphs of one network; all share their layers, so training one trains all.

    Pixels are (N, S, S, 3) in 0…255. `model`: pixels → probability (N, 1), what `best.h5` holds.
    `training`: pixels → {"logit": (N, 1), "fracture_map": (N, S//8, S//8, 1) logits, the latter
    only with a map head}. `serving`: pixels → {"logit": (N, 1), "embedding": (N, D), "cam":
    (N, h, w), "fracture_map": (N, S//8, S//8) in 0…1}; `cam` is in logits and its mean is `logit`.
    `backbone`: pixels → last feature map. `origin`: {"origin": text, "sha256": text or None} of the
    initial weights.
    """

    name: str
    image_size: int
    map_head: bool
    backbone: keras.Model
    model: keras.Model
    training: keras.Model
    serving: keras.Model
    origin: dict[str, str | None] = field(default_factory=dict)

    def head_layers(self) -> list[keras.Layer]:
        """The layers on top of the backbone that hold weights: `logit`, and the map head."""
        names = [LOGIT_LAYER, *([ATTENTION_LAYER] if self.map_head else [])]
        return [self.serving.get_layer(name) for name in names]

    def trunk_and_tail(
        self, layer_name: str | None = None, with_map: bool = False
    ) -> tuple[keras.Model, keras.Model]:
        """Cut the training graph in two at a layer of the backbone.

        trunk: pixels → {"features": the layer's output, "map_features": (N, h8, w8, C)}; tail: the
        same dictionary → what `training` gives. Without `layer_name` the cut is at the embedding:
        the tail is then the head alone. "map_features" and "fracture_map" are there `with_map`
        only. Layers are shared, so training the tail trains this classifier. Run the trunk with
        `training=False`.

        Raises:
            ValueError: there is no such layer, or the cut does not separate pixels from logit.
        """
        name = layer_name or "embedding"
        # The training graph is cut, not a copy of it: layers are shared.
        cuts = {"features": self.training.get_layer(name).output}
        wanted = {"logit": self.training.output["logit"]}
        if with_map and self.map_head:
            source = find_architecture(self.name).map_layer
            cuts["map_features"] = self.backbone.get_layer(source).output
            wanted["fracture_map"] = self.training.output["fracture_map"]
        for key, tensor in cuts.items():
            # Keras wants a dictionary's keys to be its tensors' names.
            tensor.name = key
        trunk = keras.Model(self.training.input, cuts, name="trunk")
        return trunk, keras.Model(cuts, wanted, name="tail")


def build_classifier(
    name: str,
    image_size: int,
    weights: str | Path = "none",
    seed: int | None = 0,
    map_head: bool = False,
    dropout: float = 0.2,
) -> Classifier:
    """Build a classifier with fresh heads; `seed` sets Keras's global seed, so it fixes weights.

    With `seed` None the global seed is left alone, for weights that are to be overwritten.

    `weights` is `imagenet`, `none`, or a folder that holds the file under Keras's own name (the
    `cnn` has none and always starts from scratch); `image_size` is in pixels a side; `dropout` in
    0…1 acts on the embedding.

    Raises:
        ConfigError: the name is unknown, the size too small, or the weights cannot be had.
    """
    if seed is not None:
        # Before any layer is made: initial weights are drawn as layers are built.
        keras.utils.set_random_seed(seed)
    backbone = build_backbone(name, image_size)
    origin = load_pretrained(backbone, find_architecture(name), weights)
    pixels, features = backbone.input, backbone.output  # (B, S, S, 3), (B, h, w, D)
    embedding = layers.GlobalAveragePooling2D(name="embedding")(features)
    # Does nothing at inference, so the logit stays the mean of `cam`.
    dropped = layers.Dropout(dropout, name="dropout")(embedding)
    head = layers.Dense(1, name=LOGIT_LAYER)
    logit = head(dropped)
    probability = layers.Activation("sigmoid", name="probability")(logit)
    trained, served = {"logit": logit}, {"logit": logit, "embedding": embedding}
    # The same Dense on every cell: its mean is the logit, since averaging and a linear map commute.
    # Dense acts on the last axis: (B, h, w, D) -> (B, h, w, 1).
    served["cam"] = ops.squeeze(head(features), -1)
    if map_head:
        trained["fracture_map"] = _add_map_head(backbone, name, image_size)
        served["fracture_map"] = ops.squeeze(ops.sigmoid(trained["fracture_map"]), -1)
    return Classifier(
        name=name,
        image_size=image_size,
        map_head=map_head,
        backbone=backbone,
        model=keras.Model(pixels, probability, name=name),
        training=keras.Model(pixels, trained, name=f"{name}_training"),
        serving=keras.Model(pixels, served, name=f"{name}_serving"),
        origin=origin,
    )


def _add_map_head(backbone: keras.Model, name: str, image_size: int) -> Any:
    """Logits (B, S//8, S//8, 1): the network's own attention for `cnn`, else a new 1 × 1 head."""
    if name == "cnn":
        logits = backbone.get_layer(ATTENTION_LAYER).output
    else:
        features = backbone.get_layer(find_architecture(name).map_layer).output
        logits = layers.Conv2D(1, 1, name=ATTENTION_LAYER)(features)
    return _fit_to(logits, image_size // MAP_STRIDE)


def _fit_to(grid: Any, side: int) -> Any:
    """Pad (both ends alike) or crop (the far end) a (B, h, w, 1) grid to (B, side, side, 1).

    Networks with unpadded convolutions lose a rim of cells, which holds no fracture: it is given
    the logit −10. A grid that is larger has its surplus beyond the last whole cell.
    """
    for axis in (1, 2):
        missing = side - grid.shape[axis]
        if missing > 0:
            pads = [[0, 0]] * 4
            # Half on each side: unpadded convolutions lose as much at either rim.
            pads[axis] = [missing // 2, missing - missing // 2]
            # A probability of 5e-5: dark in the heat map, and next to nothing in the map's loss.
            grid = ops.pad(grid, pads, constant_values=-10.0)
        elif missing < 0:
            grid = grid[:, :side] if axis == 1 else grid[:, :, :side]
    return grid
