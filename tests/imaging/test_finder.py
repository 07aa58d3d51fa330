"""The vertebra finder: the box it returns, and what it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cspine.imaging.vertebra.bone import bone_map
from cspine.imaging.vertebra.centre import find_centre, refine_peak
from cspine.imaging.vertebra.finder import Box, find_vertebra
from cspine.phantom.anatomy.bone import VERTEBRA_MIDDLE
from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import render_patient

SOFT, BONE = 150, 255


def paint_neck(side: int = 512, soft: int = SOFT, air: int = 0, centre=(0.52, 0.45)) -> np.ndarray:
    """A neck as plain as can be: muscle, an airway, a body, the canal behind it, side parts, spine.

    `centre` is the canal's, as (x, y) in shares of the side.
    """
    rows, columns = np.mgrid[:side, :side] / side
    down, right = rows - centre[1], columns - centre[0]
    grey = np.full((side, side), air, np.uint8)
    grey[np.hypot(rows - 0.5, columns - 0.5) < 0.42] = soft
    grey[np.hypot(down + 0.2, right) < 0.04] = air
    grey[np.hypot((down + 0.07) / 0.8, right) < 0.05] = BONE  # body
    grey[np.hypot(down, right) < 0.05] = BONE  # arch
    grey[(np.abs(right) < 0.12) & (np.abs(down + 0.02) < 0.025)] = BONE  # side parts
    grey[(np.abs(right) < 0.012) & (down > 0) & (down < 0.13)] = BONE  # spine
    grey[np.hypot(down / 0.8, right) < 0.035] = soft  # canal
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
    assert is_near(box, 0.52 * side, 0.45 * side, 0.05 * side)


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


@pytest.mark.parametrize("shape", [(1, 200), (200, 1), (20, 5000), (1, 1)])
def test_a_strip_is_refused(shape):
    assert find_vertebra(np.full(shape, 120, np.uint8)) is None


def test_soft_tissue_alone_is_refused():
    rows, columns = np.mgrid[:512, :512] - 255.5
    assert find_vertebra(np.where(np.hypot(rows, columns) < 230, 140, 0).astype(np.uint8)) is None


def test_the_peak_is_refined_towards_its_higher_neighbour_even_at_the_edge():
    scores = np.full((64, 64), -50, np.float32)
    scores[0, 10], scores[0, 11] = 3.0, 3.0 - np.log(3.0)
    assert refine_peak(scores) == pytest.approx((0, 10.25))


def test_the_centre_follows_the_neck_and_its_score_hardly_changes():
    grey = paint_neck(centre=(0.5, 0.5))
    score, row, column = find_centre(bone_map(grey)[0])
    moved = find_centre(bone_map(np.roll(grey, (40, -24), axis=(0, 1)))[0])
    assert moved == pytest.approx((score, row + 10, column - 6), abs=0.5)


def test_every_vertebra_of_a_phantom_is_found_near_its_true_middle():
    for sliced in render_patient(0, PhantomConfig(patients=1, seed=4711)):
        patient, turn = sliced.patient, sliced.patient.rotation
        away = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        shift = away @ VERTEBRA_MIDDLE / patient.spacing_mm
        truth = np.array(patient.middle) * sliced.grey.shape[0] + shift
        assert is_near(find_vertebra(sliced.grey), *truth, tolerance=8 / patient.spacing_mm)
