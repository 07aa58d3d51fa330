"""The vertebra finder: the box it returns, and what it must refuse."""

from __future__ import annotations

import numpy as np

from cspine.imaging.localise import Box, find_vertebra


def test_box_measures_itself():
    box = Box(10, 20, 30, 60)
    assert (box.width, box.height, box.centre) == (20, 40, (20.0, 40.0))


def test_box_is_clipped_to_the_image():
    assert Box(-5, 90, 20, 130).clip_to(height=100, width=50) == Box(0, 90, 20, 100)


def test_a_blank_image_has_no_vertebra():
    assert find_vertebra(np.zeros((256, 256), np.uint8)) is None
