"""Conversion of grey to three equal channels, the input of every network.

It is separate from `preprocess.py`, because the engine needs only this function and must load
without SciPy.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

_Scalar = TypeVar("_Scalar", bound=np.generic)


def as_network_input(grey: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """Return `grey` (…, S, S) as three equal channels (…, S, S, 3), contiguous, same dtype."""
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)
