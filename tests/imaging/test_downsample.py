"""Block means: exactly those that NumPy's own mean gives, whatever the sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspine.imaging.downsample import block_means


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_block_means_are_the_means_of_blocks(height, width, side, seed):
    grey = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    rows, columns = height // side, width // side
    blocks = grey[: rows * side, : columns * side].reshape(rows, side, columns, side)
    expected = (
        blocks.mean(axis=(1, 3), dtype=np.float64) if blocks.size else np.zeros((rows, columns))
    )
    assert np.allclose(block_means(grey, side), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("side", [257, 258, 400])
def test_a_large_white_block_does_not_overflow(side):
    white = np.full((side, 2 * side), 255, np.uint8)
    assert block_means(white, side) == pytest.approx(np.full((1, 2), 255.0), rel=1e-6)


def test_a_picture_without_a_whole_block_costs_nothing():
    assert block_means(np.zeros((40_000_000, 1), np.uint8), 312_500).shape == (128, 0)
