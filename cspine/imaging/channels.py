"""Grey to three equal channels, which is what every network takes.

Apart from `preprocess.py`, because the engine needs this alone of it and loads without SciPy.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

_Scalar = TypeVar("_Scalar", bound=np.generic)


def as_network_input(grey: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """Return (…, S, S, 3) of grey (…, S, S), of its type: three equal channels, contiguous."""
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)
