"""Map of bone: the share of bone in each cell of a slice, from grey pixels of an unknown window.

The soft-tissue level is measured in the histogram of the image, so any window from soft tissue to
bone will do, and no Hounsfield units are needed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cspine.imaging.downsample import block_means

WORKING_SIDE_PX = 128  # the vertebra is 28 to 50 cells wide there, noise is averaged away
_AIR = 12  # grey levels below are air or outside the field of view in every window
_SATURATED = 250  # grey levels above are saturated bone or a white surround

Map = npt.NDArray[np.float32]


def reduce_slice(grey: npt.NDArray[np.uint8]) -> tuple[Map, int]:
    """Average uint8 (H, W) over square cells: float32 (h, w) of about 128 a side, and the step."""
    step = max(1, round(max(grey.shape) / WORKING_SIDE_PX))
    return block_means(grey, step), step


def blank_surround(small: Map) -> Map:
    """Set the outside of a round field of view to 0 if it was filled with white."""
    corners = small[[0, 0, -1, -1], [0, -1, 0, -1]]
    # All four corners white is a filled surround; bone reaches no corner, let alone four.
    if (corners < _SATURATED).any():
        return small
    height, width = small.shape
    rows, columns = np.ogrid[:height, :width]
    from_middle = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2)
    # A little within the circle, whose edge cells mix with the white.
    return np.where(from_middle < 0.485 * min(height, width), small, np.float32(0))


def soft_tissue_level(small: Map) -> tuple[int, int] | None:
    """The grey level of muscle and how far its peak reaches upwards, or None without a peak.

    Muscle is the brightest large peak of the histogram: fat and air are darker, bone is spread
    thin or saturated.
    """
    counts = np.bincount(small.astype(np.uint8).ravel(), minlength=256)
    # Air and saturation are the tallest bins of all and no tissue.
    counts[:_AIR] = 0
    counts[_SATURATED:] = 0
    smooth = np.convolve(counts, np.ones(9), "same")
    padded = np.pad(smooth, 10)
    highest_near = np.lib.stride_tricks.sliding_window_view(padded, 21).max(axis=1)
    peaks = np.flatnonzero((smooth >= highest_near) & (smooth >= 0.15 * smooth.max()))
    if smooth.max() == 0:
        return None
    level = int(peaks[-1])
    # Always found: nothing is counted from 250 on, so the sums are 0 from 254 on.
    reach = int((smooth[level:] < 0.1 * smooth[level]).argmax())
    return level, reach


def bone_map(grey: npt.NDArray[np.uint8]) -> tuple[Map, int] | None:
    """How much of each cell is bone, float32 (h, w) in 0..1, and the cell's side in pixels.

    None where the picture has no soft-tissue peak to measure bone against, or is a mere strip.
    """
    small, step = reduce_slice(grey)
    # Of a picture 128 times as long as it is wide no whole cell is left.
    if small.size == 0:
        return None
    small = blank_surround(small)
    soft = soft_tissue_level(small)
    if soft is None:
        return None
    level, reach = soft
    # Grey levels that the window has left for bone.
    room = 255 - level
    # Above the muscle's own noise, yet below saturation in narrow windows.
    threshold = level + min(max(1.5 * reach, 0.08 * room), 0.7 * room)
    return np.clip((small - threshold) / (0.15 * room) + 0.5, 0, 1).astype(np.float32), step
