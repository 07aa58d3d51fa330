"""Bone map: the share of bone in each cell of a slice, from grey pixels of an unknown window.

A cell is a square block of source pixels. The grey level of soft tissue is measured in the
histogram of the image. Therefore the map works in any window from soft tissue to bone, and needs
no Hounsfield units.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cspine.imaging.downsample import block_means

WORKING_SIDE_PX = 128  # makes the vertebra 28 to 50 cells wide, and averages noise away
_AIR = 12  # in every window, lower grey levels are air or outside the field of view
_SATURATED = 250  # higher grey levels are saturated bone or a white surround

Map = npt.NDArray[np.float32]


def reduce_slice(grey: npt.NDArray[np.uint8]) -> tuple[Map, int]:
    """Average uint8 (H, W) over square cells.

    Returns:
        The means, float32 (h, w), about 128 cells on the longer side; and the cell's side in
        pixels.
    """
    step = max(1, round(max(grey.shape) / WORKING_SIDE_PX))
    return block_means(grey, step), step


def blank_surround(small: Map) -> Map:
    """Set the outside of a round field of view to 0 if it is white."""
    corners = small[[0, 0, -1, -1], [0, -1, 0, -1]]
    # Four white corners mean a white surround, because bone does not reach the corners.
    if (corners < _SATURATED).any():
        return small
    height, width = small.shape
    rows, columns = np.ogrid[:height, :width]
    from_middle = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2)
    # The radius is a little below 0.5, because cells on the circle's edge mix with the white.
    return np.where(from_middle < 0.485 * min(height, width), small, np.float32(0))


def soft_tissue_level(small: Map) -> tuple[int, int] | None:
    """Return the grey level of muscle and how far its peak extends upwards, in grey levels.

    Muscle is the brightest large peak of the histogram, because fat and air are darker, and bone
    is saturated or spread over many levels. Returns None if there is no peak.
    """
    counts = np.bincount(small.astype(np.uint8).ravel(), minlength=256)
    # Air and saturation have the tallest bins, but are not soft tissue.
    counts[:_AIR] = 0
    counts[_SATURATED:] = 0
    smooth = np.convolve(counts, np.ones(9), "same")
    padded = np.pad(smooth, 10)
    highest_near = np.lib.stride_tricks.sliding_window_view(padded, 21).max(axis=1)
    peaks = np.flatnonzero((smooth >= highest_near) & (smooth >= 0.15 * smooth.max()))
    if smooth.max() == 0:
        return None
    level = int(peaks[-1])
    # A level below the limit always exists: counts are 0 from 250 on, so sums are 0 from 254 on.
    reach = int((smooth[level:] < 0.1 * smooth[level]).argmax())
    return level, reach


def bone_map(grey: npt.NDArray[np.uint8]) -> tuple[Map, int] | None:
    """Return the share of bone in each cell, float32 (h, w) in 0..1, and the cell's side in pixels.

    Returns None if the picture has no soft-tissue peak to compare bone with, or is a thin strip.
    """
    small, step = reduce_slice(grey)
    # A picture about 128 times as long as it is wide has no complete cell.
    if small.size == 0:
        return None
    small = blank_surround(small)
    soft = soft_tissue_level(small)
    if soft is None:
        return None
    level, reach = soft
    # The grey levels that the window leaves for bone.
    room = 255 - level
    # The threshold is above the noise of muscle, and in narrow windows still below saturation.
    threshold = level + min(max(1.5 * reach, 0.08 * room), 0.7 * room)
    return np.clip((small - threshold) / (0.15 * room) + 0.5, 0, 1).astype(np.float32), step
