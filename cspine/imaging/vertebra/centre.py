"""Centre of the vertebra in a map of bone: the maximum of one learned filter.

The filter was fitted on phantoms so that a softmax over all positions has its maximum at the true
one (tools/train_localiser.py). It does not decide whether there is a vertebra at all: `finder.py`
does, by the score and the bone around.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from cspine.imaging.vertebra.bone import Map

FRAME_SIDE = 64  # positions a side that are scored; the longer side of an image is scaled to it
_NEAR = 2  # positions around the best one that the softmax averages, for a finer centre
KERNEL_FILE = "centre.npz"


def sample_frame(bone: Map) -> npt.NDArray[np.float32]:
    """The bone map (h, w), brought to float32 (64, 64), in 0..1; 0 outside the picture."""
    scale = max(bone.shape) / FRAME_SIDE
    # From the middles of positions to the middles of cells, hence the halves.
    along = (np.arange(FRAME_SIDE, dtype=np.float32) + 0.5) * scale - 0.5
    positions = np.meshgrid(along, along, indexing="ij")
    frame: npt.NDArray[np.float32] = ndimage.map_coordinates(bone, positions, order=1)
    return frame


def find_centre(bone: Map) -> tuple[float, float, float]:
    """Return (score, row, column) of the likeliest vertebra centre in `bone` (h, w), in cells.

    The score, at least 0, is the log-odds of the best position against the median position.
    """
    spectrum = fft.rfft2(sample_frame(bone), (2 * FRAME_SIDE,) * 2) * _load_spectrum()
    # The kernel's origin is its corner, negative offsets at the far ends: nothing is to be shifted.
    scores = fft.irfft2(spectrum, (2 * FRAME_SIDE,) * 2)[:FRAME_SIDE, :FRAME_SIDE]
    row, column = refine_peak(scores)
    scale = max(bone.shape) / FRAME_SIDE
    # Relative to the median, since most positions have no vertebra.
    score = float(scores.max() - np.median(scores))
    return score, (row + 0.5) * scale - 0.5, (column + 0.5) * scale - 0.5


def refine_peak(scores: npt.NDArray[np.float32]) -> tuple[float, float]:
    """The mean (row, column) under the softmax of `scores` close to its highest place."""
    top, left = (
        max(0, int(place) - _NEAR) for place in np.unravel_index(scores.argmax(), scores.shape)
    )
    near = scores[top : top + 2 * _NEAR + 1, left : left + 2 * _NEAR + 1]
    # Only near positions: in a softmax of the whole frame many far ones would move the mean.
    share = np.exp(near - near.max())
    share /= share.sum()
    rows, columns = (np.arange(side) for side in near.shape)
    return top + float(share.sum(axis=1) @ rows), left + float(share.sum(axis=0) @ columns)


@lru_cache(maxsize=1)
def _load_spectrum() -> npt.NDArray[np.complex64]:
    """The kernel's spectrum; its grid of twice the frame's side stops wrap-around."""
    file = resources.files("cspine.imaging.vertebra") / KERNEL_FILE
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        spectrum: npt.NDArray[np.complex64] = fft.rfft2(arrays["kernel"].astype(np.float32))
    return spectrum
