"""The project's own network, `cnn`: compact and deep, with a fine last feature map.

A fracture is one to five pixels wide in a 192 × 192 crop, so the stem is a 5 × 5 convolution at
every second pixel, half of the depth is at strides 4 and 8, and the last feature map stays at
stride 8. A coarse branch (stride 16) adds context to that feature map. Attention then weights the
features before they are averaged: a softmax over the crop turns the map logits of the cells into
weights. With masks, the map head trains these logits, so the label depends on the cells that the
map marks. As in the other networks, average pooling and one Dense follow, so `cam` stays exact.

The network has 0.37 million parameters and no pre-trained weights. A second block at stride 2 was
measured and left out, because it took a third of the training time.
"""

from __future__ import annotations

from typing import Any

from keras import layers

# Channels at strides 2, 4, 8 and 16.
WIDTHS = (16, 32, 64, 80)
# The embedding has twice as many units: the attended means, then the plain means.
FEATURES = 96
ATTENTION_LAYER = "fracture_map_logit"


def convolve(x: Any, filters: int, name: str, kernel: int = 3, strides: int = 1) -> Any:
    """Convolve before a norm: (B, H, W, C) -> (B, ceil(H / strides), …, filters)."""
    # No bias, since the norm adds an offset; weights are scaled for ReLU (He et al. 2015).
    return layers.Conv2D(
        filters,
        kernel,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)


def _conv(x: Any, filters: int, name: str, kernel: int = 3, strides: int = 1) -> Any:
    """Convolution, batch norm, ReLU: (B, H, W, C) -> (B, ceil(H / strides), …, filters)."""
    x = convolve(x, filters, name, kernel, strides)
    # 0.9 instead of Keras's 0.99: runs are short, so the moving statistics must adapt quickly.
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _residual(x: Any, name: str) -> Any:
    """Apply a residual block: two convolutions with batch norm, added to their input."""
    filters = x.shape[-1]
    y = _conv(x, filters, f"{name}a")
    y = convolve(y, filters, f"{name}b")
    # The block starts as the identity, which lets this depth train at a high rate from step one.
    y = layers.BatchNormalization(momentum=0.9, gamma_initializer="zeros", name=f"{name}b_norm")(y)
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, y]))


def _add_context(x: Any) -> Any:
    """Add a coarser branch's features to the stride-8 features: (B, h, w, C) -> the same shape."""
    height, width, filters = x.shape[1:]
    y = _conv(x, WIDTHS[3], "context_down", strides=2)
    # (B, ceil(h / 2), ceil(w / 2), 80)
    y = _residual(y, "context")
    y = layers.Conv2D(filters, 1, name="context_project")(y)
    y = layers.UpSampling2D(2, name="context_up")(y)
    # An odd side comes back one cell larger.
    surplus = ((0, y.shape[1] - height), (0, y.shape[2] - width))
    if surplus != ((0, 0), (0, 0)):
        y = layers.Cropping2D(surplus, name="context_crop")(y)
    return layers.Add(name="context_joined")([x, y])


def _attend(x: Any) -> Any:
    """Return features weighted by a softmax of the map logits over all cells, then plain features.

    (B, h, w, C) -> (B, h, w, 2 C). The weights' mean over the crop is 1, so average pooling gives
    the attended mean and the plain mean for crops of any size.
    """
    height, width, _ = x.shape[1:]
    logit = layers.Conv2D(1, 1, name=ATTENTION_LAYER)(x)  # (B, h, w, 1)
    # (B, h * w): the softmax runs over the cells.
    flat = layers.Reshape((height * width,), name="attention_flat")(logit)
    weights = layers.Softmax(name="attention")(flat)
    weights = layers.Reshape((height, width, 1), name="attention_grid")(weights)
    # The scale depends only on the input's size, so it is a constant of the graph.
    weights = layers.Rescaling(float(height * width), name="attention_scale")(weights)
    attended = layers.Multiply(name="attended")([x, weights])
    return layers.Concatenate(name="last_features")([attended, x])


def build_cnn(scaled: Any) -> Any:
    """Return the last feature map (B, S/8, S/8, 192) of scaled pixels (B, S, S, 3) in −1…1."""
    # With 5 × 5 at stride 2, at least four cells still see each pixel.
    x = _conv(scaled, WIDTHS[0], "stem", kernel=5, strides=2)  # (B, S/2, S/2, 16)
    x = _conv(x, WIDTHS[1], "middle_down", strides=2)  # (B, S/4, S/4, 32)
    x = _residual(x, "middle")
    x = _conv(x, WIDTHS[2], "coarse_down", strides=2)  # (B, S/8, S/8, 64)
    x = _residual(x, "coarse1")
    x = _residual(x, "coarse2")
    x = _add_context(x)
    return _attend(_conv(x, FEATURES, "features_in", kernel=1))
