"""Fracture masks from a mask file or boxes, as pixels and as cells of the map head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspine.core.errors import DataError
from cspine.data.records import SliceRecord
from cspine.imaging.decode import decode_image

MASK_STRIDE = 8  # the map head's stride in pixels


def read_mask(
    read: Callable[[str], bytes], record: SliceRecord, shape: tuple[int, ...]
) -> np.ndarray:
    """Return the fracture as bool (H, W), from the mask file or, without one, from the boxes.

    Args:
        read: returns the bytes of a file of the data set.
        record: the fractured slice.
        shape: (H, W) of the image.

    Raises:
        DataError: the mask and the image differ in size.
        ImageError: the mask cannot be read.
    """
    if record.mask_path is None:
        mask = np.zeros(shape, bool)
        for box in record.boxes:
            inside = box.clip_to(*shape)
            mask[inside.y0 : inside.y1, inside.x0 : inside.x1] = True
        return mask
    # Any nonzero value is fracture, because masks are saved as 1 or as 255.
    mask = decode_image(read(record.mask_path)).grey > 0
    if mask.shape != shape:
        raise DataError(f"the mask must have the image's size {shape}. Received: {mask.shape}")
    return mask


def pool_mask(mask: np.ndarray) -> np.ndarray:
    """Return a bool (S, S) mask max-pooled at stride 8, as uint8 (S // 8, S // 8).

    If 8 does not divide S, the last cell also covers the pixels that are left over.
    """
    cells = mask.shape[0] // MASK_STRIDE
    # A mean would average away a hairline fracture, which is a few of a cell's 64 pixels.
    edges = np.arange(cells) * MASK_STRIDE
    rows = np.maximum.reduceat(mask, edges, axis=0)
    return np.maximum.reduceat(rows, edges, axis=1).astype(np.uint8)
