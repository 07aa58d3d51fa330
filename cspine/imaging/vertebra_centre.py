"""From where the bone settles to the middle of the canal: a linear map learned on phantoms.

The middle of the bone lies in front of the canal by an amount that depends on the level. A ridge
regression on the bone around (benchmarks/train_localiser.py) reads it off; it knows no level.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cspine.imaging.vertebra_bone import WORKING_SIDE_PX, Map

_HALF, _POINTS = 24.0, 25  # the patch reaches 24 working cells each way, in steps of 2
_FARTHEST = 14.0  # working cells; a longer correction is cut to this
WEIGHTS_FILE = "vertebra_centre.npz"


def sample_patch(bone: Map, row: float, column: float) -> npt.NDArray[np.float32]:
    """Smoothed bone around (row, column), float32 (25, 25), in 0..1; 0 outside the picture.

    Its scale is a share of the picture, so that a picture of another size gives the same patch.
    """
    scale = max(bone.shape) / WORKING_SIDE_PX
    offsets = np.linspace(-_HALF, _HALF, _POINTS) * scale
    places = np.meshgrid(row + offsets, column + offsets, indexing="ij")
    smooth = ndimage.gaussian_filter(bone, 1.2 * scale, truncate=2.5)
    patch: npt.NDArray[np.float32] = ndimage.map_coordinates(smooth, places, order=1)
    return patch


def correct_centre(bone: Map, row: float, column: float) -> tuple[float, float]:
    """The canal's middle as (row, column), in cells, from where the bone settles."""
    scale = max(bone.shape) / WORKING_SIDE_PX
    weights, bias = _load_weights()
    shift = sample_patch(bone, row, column).ravel() @ weights + bias  # (2,)
    shift *= min(1.0, _FARTHEST / float(np.hypot(*shift) + 1e-6)) * scale
    return row + float(shift[0]), column + float(shift[1])


@lru_cache(maxsize=1)
def _load_weights() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The weights, float32 (625, 2), and bias, float32 (2,), for (down, right)."""
    file = resources.files("cspine.imaging") / WEIGHTS_FILE
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return arrays["weights"], arrays["bias"]
