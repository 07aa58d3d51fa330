"""Preprocessing of a grey slice to network input, the same in training and serving.

There are two views: `slice` is the complete slice, resized; `vertebra` is a crop around the
vertebra at native resolution. The network scales the values itself, so pixels stay uint8, 0–255.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from cspine.core.errors import ConfigError
from cspine.imaging.channels import as_network_input as as_network_input
from cspine.imaging.decoded_image import GreyArray
from cspine.imaging.vertebra.finder import Box, find_vertebra

AIR = 0  # uint8, the value of pixels outside the source image
_Scalar = TypeVar("_Scalar", bound=np.generic)

VIEWS = ("slice", "vertebra")
# A smaller source was probably downscaled before it was published, so it is too coarse to crop.
_SLICE_BELOW_PX = 384

# Pillow's bilinear filter widens with the factor of reduction, so every source pixel counts and
# the result is antialiased. benchmarks/decode.py compares it with Pillow's other filters.
_FILTER = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Crop:
    """The network's view of one slice.

    Fields:
        image: uint8 (S, S), 0–255; AIR outside the source image.
        region: the part of the source that `image` shows, in source pixels. In slice view it is
            the complete image; in vertebra view it is S × S pixels, possibly beyond the image.
    """

    image: GreyArray
    region: Box


def default_view(height: int, width: int) -> str:
    """Return `slice` for a source under 384 pixels on a side, else `vertebra`."""
    return "slice" if min(height, width) < _SLICE_BELOW_PX else "vertebra"


def preprocess(grey: GreyArray, view: str, image_size: int) -> Crop | None:
    """Return the network's view of a slice; None in vertebra view if no vertebra is found.

    Args:
        grey: uint8 (H, W), 0–255.
        view: `slice` or `vertebra`.
        image_size: S, side of the result in pixels.

    Raises:
        ConfigError: `view` is not one of VIEWS.
    """
    height, width = grey.shape
    if view == "slice":
        return Crop(_resize(grey, image_size), Box(0, 0, width, height))
    if view != "vertebra":
        raise ConfigError(f"`view` must be `slice` or `vertebra`. Received: {view!r}")
    vertebra = find_vertebra(grey)
    if vertebra is None:
        return None
    region = _square_around(vertebra, image_size)
    return Crop(_cut(grey, region), region)


def _resize(grey: GreyArray, size: int) -> GreyArray:
    """Return the complete image as (size, size); a source that is not square is distorted."""
    if grey.shape == (size, size):
        return grey
    return np.asarray(Image.fromarray(grey).resize((size, size), _FILTER))


def _square_around(box: Box, size: int) -> Box:
    """Return the square with sides of `size` pixels and the same centre as `box`."""
    x, y = box.centre
    x0, y0 = round(x - size / 2), round(y - size / 2)
    return Box(x0, y0, x0 + size, y0 + size)


def _cut(pixels: npt.NDArray[_Scalar], region: Box) -> npt.NDArray[_Scalar]:
    """Return the pixels of `region`, zero outside the image."""
    corners = (region.x0, region.y0, region.x1, region.y1)
    return np.asarray(Image.fromarray(pixels).crop(corners))


def crop_mask(
    mask: npt.NDArray[np.bool_], region: Box, image_size: int | None = None
) -> npt.NDArray[np.bool_]:
    """Return the part of a mask in `region` as bool, False outside the image.

    Args:
        mask: bool (H, W).
        region: the part to return, in source pixels.
        image_size: S, to resize the part to bool (S, S) like `Crop.image`; None keeps its size.
            A target pixel is True if any source pixel under it is True, so that a hairline
            fracture does not vanish.
    """
    cut = _cut(mask, region)
    if image_size is None or cut.shape == (image_size, image_size):
        return cut
    # The result of a box filter on floats is above 0 exactly if some source pixel is True.
    levels = Image.fromarray(cut.astype(np.float32), mode="F")
    return np.asarray(levels.resize((image_size, image_size), Image.Resampling.BOX)) > 0
