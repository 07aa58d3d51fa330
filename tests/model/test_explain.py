"""The heat map lies where its crop lies and means what it says."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.imaging.vertebra.finder import Box
from cspine.model.engine.pending_output import EngineOutput
from cspine.model.explain import heatmap


def output_of(cam, fracture_map=None):
    zero = np.zeros(1, np.float32)
    return EngineOutput(zero, zero[None], np.float32(cam)[None], fracture_map)


def test_certainty_is_white_and_outside_is_black():
    # A logit of 50 is certainty, 1 to within float32.
    sure = output_of(np.full((4, 4), 50.0))
    shown = heatmap(sure, Box(2, 1, 6, 5), (8, 10))
    assert shown.shape == (8, 10)
    assert (shown[1:5, 2:6] == 255).all() and shown.sum() == 255 * 16


def test_a_trained_map_is_shown_before_the_cam():
    both = output_of(np.full((4, 4), 50.0), np.full((1, 4, 4), 0.2, np.float32))
    # 0.2 of 255: values are absolute, not stretched.
    assert (heatmap(both, Box(0, 0, 8, 8), (8, 8)) == 51).all()


def test_the_hot_cell_stays_in_its_corner():
    grid = np.zeros((1, 8, 8), np.float32)
    grid[0, 0, 7] = 1.0
    shown = heatmap(output_of(grid[0], grid), Box(0, 0, 64, 64), (64, 64))
    y, x = np.unravel_index(shown.argmax(), shown.shape)
    assert y < 8 and x >= 56


@settings(max_examples=50, deadline=None)
@given(st.integers(-60, 60), st.integers(-60, 60), st.integers(1, 50), st.integers(1, 50))
def test_any_region_gives_the_source_shape(x0, y0, height, width):
    shown = heatmap(output_of(np.ones((3, 3))), Box(x0, y0, x0 + 24, y0 + 24), (height, width))
    assert shown.shape == (height, width)
