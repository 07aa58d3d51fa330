"""The heat map of one answer, in the pixels of the source image.

It shows `fracture_map` if the network has a trained map head, else the class activation map.
Values are absolute (255 is certainty) and are not stretched, so a normal slice stays dark.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from cspine.imaging.vertebra.finder import Box
from cspine.model.engine.pending_output import EngineOutput


def heatmap(output: EngineOutput, region: Box, source_shape: tuple[int, int]) -> np.ndarray:
    """Return the heat map of one image, uint8 (H, W) of the source's shape, 0 outside the crop.

    `output` is the output of one image (N = 1); `region` is the crop in source pixels and may
    extend beyond the image; `source_shape` is (H, W) in pixels. A class activation map is in
    logits, which the logistic function converts to 0…1, the range of `fracture_map`.
    """
    if output.fracture_map is not None:
        grid = output.fracture_map[0]
    else:
        # Clipped, because exp would overflow; a logit of ±60 is certainty.
        grid = 1.0 / (1.0 + np.exp(-np.clip(output.cam[0], -60.0, 60.0)))
    # The map is enlarged as floats and rounded to 8 bits only at the end.
    small = Image.fromarray(np.asarray(grid, dtype=np.float32))
    large = small.resize((region.width, region.height), Image.Resampling.BILINEAR)
    height, width = source_shape
    # A crop may extend beyond a small slice; only the part on the image is drawn.
    inside = region.clip_to(height, width)
    canvas = np.zeros((height, width), dtype=np.uint8)
    patch = np.asarray(large)[
        inside.y0 - region.y0 : inside.y1 - region.y0, inside.x0 - region.x0 : inside.x1 - region.x0
    ]
    canvas[inside.y0 : inside.y1, inside.x0 : inside.x1] = np.rint(255.0 * patch)
    return canvas
