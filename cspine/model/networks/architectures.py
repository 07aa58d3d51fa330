"""Table of the four architectures: names, sizes, weight files, and the layers used for cuts.

The table does not need Keras, so the service can read it; `backbones.py` builds the networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from cspine.core.errors import ConfigError
from cspine.core.labels import ARCHITECTURE_NAMES

# Side of a map cell in pixels. `data/masks.py` may not import this package, so it has its own
# constant.
MAP_STRIDE = 8


@dataclass(frozen=True)
class Architecture:
    """The facts of one architecture.

    `image_size` and `min_size` are pixels per side. `weights_file` is Keras's own file name of the
    ImageNet weights without the top, or None if the network always starts from scratch.
    `map_layer` is the layer at stride 8 that the map head reads. `tail_layer` is the layer whose
    output feeds the tail that fine-tuning trains; the trunk before it stays frozen.
    `revisions` counts the graphs of this name: an older `.h5` needs the graph of its training.
    `slice_size` is the default side for complete slices without masks, if it is another.
    """

    name: str
    image_size: int
    min_size: int
    weights_file: str | None
    map_layer: str
    tail_layer: str
    revisions: int = 1
    slice_size: int | None = None


_CNN, _RESNET50V2, _INCEPTIONV3, _XCEPTION = ARCHITECTURE_NAMES
ARCHITECTURES: dict[str, Architecture] = {
    one.name: one
    for one in (
        Architecture(
            name=_CNN,
            image_size=192,
            min_size=32,
            weights_file=None,
            map_layer="features_in_relu",
            tail_layer="features_in_relu",
            # 1: `cnn.py`, for crops and for masks; 2: `slice_cnn.py`, for complete slices.
            revisions=2,
            # A smaller side carries over better to series that are left out
            # (experiments/data/slice_training.py).
            slice_size=128,
        ),
        Architecture(
            name=_RESNET50V2,
            image_size=224,
            min_size=32,
            weights_file="resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
            # The last layer at stride 8: Keras's V2 halves the grid in a stack's last block.
            map_layer="conv3_block4_preact_relu",
            tail_layer="conv5_block1_preact_relu",
        ),
        Architecture(
            name=_INCEPTIONV3,
            image_size=299,
            min_size=75,
            weights_file="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            # 35 cells per side at 299 pixels: the stem's unpadded convolutions lose a rim.
            map_layer="mixed2",
            tail_layer="mixed8",
        ),
        Architecture(
            name=_XCEPTION,
            image_size=299,
            min_size=71,
            weights_file="xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
            map_layer="block4_sepconv1_act",
            # The end of the middle flow (Chollet 2017, figure 5): the tail is the exit flow.
            tail_layer="auto_add_11",
        ),
    )
}


def find_architecture(name: str) -> Architecture:
    """Return the architecture called `name`.

    Raises:
        ConfigError: there is no architecture of that name.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"`architecture` must be one of {', '.join(ARCHITECTURES)}. Received: {name!r}"
        )
    return ARCHITECTURES[name]


def choose_revision(name: str, view: str, with_masks: bool) -> int:
    """Return the revision of `name` that a new network should have.

    Complete slices without masks have a graph of their own, if the architecture has one. Masks need
    revision 1, which can be trained on parts of an image.
    """
    return find_architecture(name).revisions if view == "slice" and not with_masks else 1


def choose_image_size(name: str, view: str, with_masks: bool) -> int:
    """Return the default side in pixels of a new network's input."""
    architecture = find_architecture(name)
    is_slice = view == "slice" and not with_masks
    return (architecture.slice_size if is_slice else None) or architecture.image_size


def check_image_size(name: str, image_size: int) -> None:
    """Refuse a size that the architecture cannot take.

    Raises:
        ConfigError: `image_size`, in pixels per side, is below the architecture's minimum.
    """
    least = find_architecture(name).min_size
    if image_size < least:
        raise ConfigError(
            f"`image_size` for `{name}` must be at least {least}. Received: {image_size}"
        )
