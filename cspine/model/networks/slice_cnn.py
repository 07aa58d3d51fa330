"""Revision 2 of `cnn`, the graph for the slice view, in which every cell sees the complete slice.

The slice view shows the complete slice, where the context tells more than the finest detail. So the
pixels are halved first, and four convolutions then halve the grid to stride 32, where a residual
block sees the complete field. These features are added to those at stride 8, which keeps the class
activation map fine. Average pooling and one Dense follow, as in every architecture, so `cam` stays
exact.

A slice's window, sharpness and noise come from its scanner and its export, not from the patient.
So each image is standardised by its own mean and deviation, and group norm replaces batch norm,
whose running statistics would carry the style of the training series (Wu and He 2018).
"""

from __future__ import annotations

from typing import Any

from keras import layers

from cspine.model.networks.cnn import convolve

WIDTHS = (16, 32, 64, 96)  # channels at strides 4, 8, 16 and 32
SUM_CHANNELS, FEATURES = 64, 96
GROUPS = 8  # divides every width


def _normed(
    x: Any, filters: int, name: str, kernel: int = 3, strides: int = 1, gamma: str = "ones"
) -> Any:
    """Convolution, group norm: (B, H, W, C) -> (B, ceil(H / strides), …, filters)."""
    x = convolve(x, filters, name, kernel, strides)
    return layers.GroupNormalization(GROUPS, gamma_initializer=gamma, name=f"{name}_norm")(x)


def _conv(x: Any, filters: int, name: str, kernel: int = 3, strides: int = 1) -> Any:
    return layers.ReLU(name=f"{name}_relu")(_normed(x, filters, name, kernel, strides))


def _see_context(x: Any) -> Any:
    """Return features at stride 32 of features at stride 8: (B, h, w, 32) -> (B, h/4, w/4, 96)."""
    x = _conv(x, WIDTHS[2], "context1_down", strides=2)
    x = _conv(x, WIDTHS[3], "context2_down", strides=2)
    y = _conv(x, WIDTHS[3], "contexta")
    # The block starts as the identity, as the blocks of revision 1 do.
    y = _normed(y, WIDTHS[3], "contextb", gamma="zeros")
    return layers.ReLU(name="context_out")(layers.Add(name="context_add")([x, y]))


def build_slice_cnn(scaled: Any) -> Any:
    """Return the last feature map (B, S/8, S/8, 96) of scaled pixels (B, S, S, 3) in −1…1."""
    # One group of all pixels and channels, without weights: each image gets mean 0, deviation 1.
    x = layers.GroupNormalization(1, center=False, scale=False, name="standardised")(scaled)
    x = layers.AveragePooling2D(2, padding="same", name="halved")(x)  # (B, S/2, S/2, 3)
    x = _conv(x, WIDTHS[0], "fine_down", strides=2)  # (B, S/4, S/4, 16)
    x = _conv(x, WIDTHS[1], "middle_down", strides=2)  # (B, S/8, S/8, 32)
    height, width = x.shape[1:3]
    y = layers.Conv2D(SUM_CHANNELS, 1, name="context_project")(_see_context(x))
    y = layers.UpSampling2D(4, name="context_up")(y)  # (B, S/8, S/8, 64)
    # A side that is no multiple of 32 comes back larger.
    surplus = ((0, y.shape[1] - height), (0, y.shape[2] - width))
    if surplus != ((0, 0), (0, 0)):
        y = layers.Cropping2D(surplus, name="context_crop")(y)
    x = layers.Conv2D(SUM_CHANNELS, 1, name="middle_project")(x)
    x = layers.Add(name="context_joined")([x, y])
    return _conv(x, FEATURES, "features_in", kernel=1)
