"""The vertebra finder: the box it returns, and what it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cspine.imaging.localise import Box, find_vertebra

SOFT, BONE = 150, 255


def paint_neck(side: int = 512, soft: int = SOFT, air: int = 0, centre=(0.52, 0.45)) -> np.ndarray:
    """A neck as plain as can be: muscle, an airway, a body, a canal ringed by bone, a spine."""
    rows, columns = np.mgrid[:side, :side] / side
    down, right = rows - centre[1], columns - centre[0]
    grey = np.full((side, side), air, np.uint8)
    grey[np.hypot(rows - 0.5, columns - 0.5) < 0.42] = soft
    grey[np.hypot(down + 0.22, right) < 0.04] = air
    grey[np.hypot(down / 0.8, right) < 0.09] = BONE
    grey[(np.abs(right) < 0.13) & (np.abs(down) < 0.025)] = BONE
    grey[np.hypot(down - 0.02, right) < 0.03] = soft
    return grey


def is_near(box: Box | None, x: float, y: float, tolerance: float) -> bool:
    return box is not None and np.hypot(box.centre[0] - x, box.centre[1] - y) <= tolerance


def test_box_measures_itself():
    box = Box(10, 20, 30, 60)
    assert (box.width, box.height, box.centre) == (20, 40, (20.0, 40.0))


def test_box_is_clipped_to_the_image():
    assert Box(-5, 90, 20, 130).clip_to(height=100, width=50) == Box(0, 90, 20, 100)


@pytest.mark.parametrize("side", [224, 512, 600])
@pytest.mark.parametrize(("soft", "air"), [(80, 0), (130, 0), (200, 95), (228, 4)])
def test_a_plain_neck_is_found_in_any_window_and_size(side, soft, air):
    box = find_vertebra(paint_neck(side, soft, air))
    assert is_near(box, 0.52 * side, 0.45 * side, 0.08 * side)  # the canal lies behind the middle


def test_the_surround_may_be_white():
    grey = paint_neck()
    rows, columns = np.mgrid[:512, :512] - 255.5
    grey[np.hypot(rows, columns) > 256] = 255
    assert find_vertebra(grey) == find_vertebra(paint_neck())


@pytest.mark.parametrize("degrees", [-20, -7, 20])
def test_the_neck_may_be_turned(degrees):
    turned = ndimage.rotate(paint_neck(centre=(0.5, 0.5)), degrees, reshape=False, order=1)
    assert is_near(find_vertebra(turned), 256, 256, 40)


def test_a_skull_is_refused():
    rows, columns = np.mgrid[:512, :512]
    radius = np.hypot(rows - 256, (columns - 256) / 0.85)
    grey = np.where(radius < 220, SOFT, 0).astype(np.uint8)
    grey[(radius > 180) & (radius < 205)] = BONE
    assert find_vertebra(grey) is None


def test_pictures_without_anatomy_are_refused():
    noise = np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)
    pictures = [noise, *(np.full((300, 300), value, np.uint8) for value in (0, 128, 255))]
    assert [find_vertebra(picture) for picture in pictures] == [None] * 4


def test_soft_tissue_alone_is_refused():
    rows, columns = np.mgrid[:512, :512] - 255.5
    assert find_vertebra(np.where(np.hypot(rows, columns) < 230, 140, 0).astype(np.uint8)) is None
