"""Centre of the vertebra in a bone map: the maximum of one learned filter.

The filter was fitted on phantoms so that a softmax over all positions has its maximum at the true
centre (tools/train_localiser.py). The filter does not decide whether there is a vertebra at all:
`finder.py` does so, by the filter's score and the bone around the centre.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from cspine.imaging.vertebra.bone import Map

FRAME_SIDE = 64  # scored positions per side; the image's longer side is scaled to this length
_NEAR = 2  # the softmax averages this many positions on each side of the best one
KERNEL_FILE = "centre.npz"


def sample_frame(bone: Map) -> npt.NDArray[np.float32]:
    """Return the bone map (h, w) resampled to float32 (64, 64), in 0..1; 0 outside the picture."""
    scale = max(bone.shape) / FRAME_SIDE
    # The halves convert middles of positions to middles of cells.
    along = (np.arange(FRAME_SIDE, dtype=np.float32) + 0.5) * scale - 0.5
    positions = np.meshgrid(along, along, indexing="ij")
    frame: npt.NDArray[np.float32] = ndimage.map_coordinates(bone, positions, order=1)
    return frame


def find_centre(bone: Map) -> tuple[float, float, float]:
    """Return (score, row, column) of the likeliest vertebra centre in `bone` (h, w), in cells.

    The score is the log-odds of the best position against the median position, and is at least 0.
    """
    spectrum = fft.rfft2(sample_frame(bone), (2 * FRAME_SIDE,) * 2) * _load_spectrum()
    # No shift is needed: the kernel's origin is its corner, and negative offsets wrap to the end.
    scores = fft.irfft2(spectrum, (2 * FRAME_SIDE,) * 2)[:FRAME_SIDE, :FRAME_SIDE]
    row, column = refine_peak(scores)
    scale = max(bone.shape) / FRAME_SIDE
    # The median position is the reference, because most positions have no vertebra.
    score = float(scores.max() - np.median(scores))
    return score, (row + 0.5) * scale - 0.5, (column + 0.5) * scale - 0.5


def refine_peak(scores: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the mean (row, column) under the softmax of the `scores` near the highest score."""
    top, left = (
        max(0, int(place) - _NEAR) for place in np.unravel_index(scores.argmax(), scores.shape)
    )
    near = scores[top : top + 2 * _NEAR + 1, left : left + 2 * _NEAR + 1]
    # Far positions are left out, because there are so many that they would move the mean.
    share = np.exp(near - near.max())
    share /= share.sum()
    rows, columns = (np.arange(side) for side in near.shape)
    return top + float(share.sum(axis=1) @ rows), left + float(share.sum(axis=0) @ columns)


@lru_cache(maxsize=1)
def _load_spectrum() -> npt.NDArray[np.complex64]:
    """Return the kernel's spectrum, on a grid of twice the frame's side to avoid wrap-around."""
    file = resources.files("cspine.imaging.vertebra") / KERNEL_FILE
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        spectrum: npt.NDArray[np.complex64] = fft.rfft2(arrays["kernel"].astype(np.float32))
    return spectrum
