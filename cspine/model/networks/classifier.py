"""A backbone with its classification head: graphs for training, saving and serving, sharing layers.

backbone → global average pooling (`embedding`) → dropout → Dense(1) (`logit`) → sigmoid. Because
the head is linear in the average, the same Dense applied to each cell of the last feature map is
the class activation map (Zhou et al. 2016), whose mean over the cells is exactly the logit: one
pass gives the answer and its explanation. The map head is a 1 × 1 convolution at stride 8.

`keras_weights.py` reads and writes the files; the trainer defines the losses.
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
    """The graphs of one network; they share their layers, so training one of them trains all.

    Pixels are (N, S, S, 3) in 0…255. `model`: pixels → probability (N, 1), as stored in `best.h5`.
    `training`: pixels → {"logit": (N, 1), "fracture_map": (N, S//8, S//8, 1) logits}.
    `serving`: pixels → {"logit": (N, 1), "embedding": (N, D), "cam": (N, h, w), "fracture_map":
    (N, S//8, S//8) in 0…1}; `cam` is in logits and its mean is `logit`. Both graphs have
    "fracture_map" only with a map head.
    `backbone`: pixels → last feature map. `origin`: {"origin": text, "sha256": text or None},
    where the initial weights come from. `revision` is that of the backbone.
    """

    name: str
    image_size: int
    map_head: bool
    backbone: keras.Model
    model: keras.Model
    training: keras.Model
    serving: keras.Model
    origin: dict[str, str | None] = field(default_factory=dict)
    revision: int = 1

    def head_layers(self) -> list[keras.Layer]:
        """The layers on top of the backbone that hold weights: `logit`, and the map head."""
        names = [LOGIT_LAYER, *([ATTENTION_LAYER] if self.map_head else [])]
        return [self.serving.get_layer(name) for name in names]

    def trunk_and_tail(
        self, layer_name: str | None = None, with_map: bool = False
    ) -> tuple[keras.Model, keras.Model]:
        """Cut the training graph in two at a layer of the backbone.

        The trunk maps pixels to {"features": the layer's output, "map_features": (N, h8, w8, C)};
        the tail maps this dictionary to the outputs of `training`. Without `layer_name` the cut is
        at the embedding, so the tail is only the head. "map_features" and "fracture_map" exist
        only if `with_map` is set. Layers are shared, so training the tail trains this classifier.
        Run the trunk with `training=False`.

        Raises:
            ValueError: there is no such layer, or the cut does not separate pixels from logit.
        """
        name = layer_name or "embedding"
        cuts = {"features": self.training.get_layer(name).output}
        wanted = {"logit": self.training.output["logit"]}
        if with_map and self.map_head:
            source = find_architecture(self.name).map_layer
            cuts["map_features"] = self.backbone.get_layer(source).output
            wanted["fracture_map"] = self.training.output["fracture_map"]
        for key, tensor in cuts.items():
            # Keras requires a dictionary's keys to be the names of its tensors.
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
    revision: int = 1,
) -> Classifier:
    """Build a classifier with fresh heads; `seed` sets Keras's global seed, so it fixes weights.

    If `seed` is None, the global seed stays unchanged; use this if all weights are overwritten
    later.

    `weights` is `imagenet`, `none`, or a folder that holds the weights under Keras's own file name
    (`cnn` has no such file and always starts from scratch); `image_size` is in pixels per side;
    `dropout` in 0…1 acts on the embedding; `choose_revision` gives the `revision` of a new network.

    Raises:
        ConfigError: the name is unknown, the size is too small, or the weights are unavailable.
    """
    if seed is not None:
        # Set before any layer exists, because layers draw their initial weights when built.
        keras.utils.set_random_seed(seed)
    backbone = build_backbone(name, image_size, revision)
    origin = load_pretrained(backbone, find_architecture(name), weights)
    pixels, features = backbone.input, backbone.output  # (B, S, S, 3), (B, h, w, D)
    embedding = layers.GlobalAveragePooling2D(name="embedding")(features)
    # Dropout does nothing at inference, so the logit stays the mean of `cam`.
    dropped = layers.Dropout(dropout, name="dropout")(embedding)
    head = layers.Dense(1, name=LOGIT_LAYER)
    logit = head(dropped)
    probability = layers.Activation("sigmoid", name="probability")(logit)
    trained, served = {"logit": logit}, {"logit": logit, "embedding": embedding}
    # The Dense layer of the logit is applied to every cell, (B, h, w, D) -> (B, h, w, 1). The mean
    # over cells is the logit, since averaging and a linear map commute.
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
        revision=revision,
    )


def _add_map_head(backbone: keras.Model, name: str, image_size: int) -> Any:
    """Return map logits (B, S//8, S//8, 1): the attention of `cnn`, or a new 1 × 1 convolution."""
    if ATTENTION_LAYER in [layer.name for layer in backbone.layers]:
        logits = backbone.get_layer(ATTENTION_LAYER).output
    else:
        features = backbone.get_layer(find_architecture(name).map_layer).output
        logits = layers.Conv2D(1, 1, name=ATTENTION_LAYER)(features)
    return _fit_to(logits, image_size // MAP_STRIDE)


def _fit_to(grid: Any, side: int) -> Any:
    """Pad (at both ends) or crop (at the far end) a (B, h, w, 1) grid to (B, side, side, 1).

    Networks with unpadded convolutions lose a rim of cells. No fracture is expected there, so the
    rim gets the logit −10. If a grid is larger, the extra cells lie beyond the last complete cell.
    """
    for axis in (1, 2):
        missing = side - grid.shape[axis]
        if missing > 0:
            pads = [[0, 0]] * 4
            # Half on each side, since unpadded convolutions lose equally many cells at both ends.
            pads[axis] = [missing // 2, missing - missing // 2]
            # −10 is a probability of 5e-5: dark in the heat map, and negligible in the map's loss.
            grid = ops.pad(grid, pads, constant_values=-10.0)
        elif missing < 0:
            grid = grid[:, :side] if axis == 1 else grid[:, :, :side]
    return grid
