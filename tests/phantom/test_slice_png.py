"""Our PNGs are PNGs: what another decoder reads from them is what was written."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cspine.phantom.writers.slice_png import encode_mask, encode_slice


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (64, 200)])
def test_pillow_reads_what_was_written(shape):
    grey = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(encode_slice(grey))) as read:
        assert (read.format, read.mode) == ("PNG", "L")
        assert (np.asarray(read) == grey).all()


def test_a_mask_shrinks_to_little():
    assert len(encode_mask(np.zeros((512, 512), bool))) < 2000
