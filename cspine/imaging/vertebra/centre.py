"""The place in a map of bone that looks most like a vertebra's middle: one learned filter.

The filter was fitted on phantoms so that a softmax over all places picks the true one
(tools/train_localiser.py). It knows no level, and says nothing about whether there is a
vertebra at all: that is judged in finder.py from the score and the bone around.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from cspine.imaging.vertebra.bone import Map

FRAME_SIDE = 64  # places a side that are scored; the longer side of any picture is brought to it
_NEAR = 2  # places around the best one over which the softmax is averaged, for a finer centre
KERNEL_FILE = "centre.npz"


def sample_frame(bone: Map) -> npt.NDArray[np.float32]:
    """The bone map (h, w), brought to float32 (64, 64), in 0..1; 0 outside the picture."""
    scale = max(bone.shape) / FRAME_SIDE
    # Middles of places onto middles of cells, hence the halves.
    along = (np.arange(FRAME_SIDE, dtype=np.float32) + 0.5) * scale - 0.5
    places = np.meshgrid(along, along, indexing="ij")
    frame: npt.NDArray[np.float32] = ndimage.map_coordinates(bone, places, order=1)
    return frame


def find_centre(bone: Map) -> tuple[float, float, float]:
    """Score and (row, column), in cells, of the place in `bone` (h, w) most like a vertebra.

    The score is the best place's log-odds against the middling place, ≥ 0.
    """
    spectrum = fft.rfft2(sample_frame(bone), (2 * FRAME_SIDE,) * 2) * _load_spectrum()
    # The kernel's origin is its corner, negative offsets at the far ends: nothing is to be shifted.
    scores = fft.irfft2(spectrum, (2 * FRAME_SIDE,) * 2)[:FRAME_SIDE, :FRAME_SIDE]
    row, column = refine_peak(scores)
    scale = max(bone.shape) / FRAME_SIDE
    # The median, since most places are certainly none: it stands for "no vertebra here".
    score = float(scores.max() - np.median(scores))
    return score, (row + 0.5) * scale - 0.5, (column + 0.5) * scale - 0.5


def refine_peak(scores: npt.NDArray[np.float32]) -> tuple[float, float]:
    """The mean (row, column) under the softmax of `scores` close to its highest place."""
    top, left = (
        max(0, int(place) - _NEAR) for place in np.unravel_index(scores.argmax(), scores.shape)
    )
    near = scores[top : top + 2 * _NEAR + 1, left : left + 2 * _NEAR + 1]
    # A softmax of the whole frame would let many far places pull; near ones refine.
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
