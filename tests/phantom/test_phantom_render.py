"""Rendering: the same seed gives the same pixels, and a twin differs by its fracture alone."""

from __future__ import annotations

import numpy as np
import pytest

from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import render_patient

CONFIG = PhantomConfig(slices_per_patient=3, fractured_share=1.0)


@pytest.fixture(scope="module")
def broken():
    return render_patient(3, CONFIG)


def test_the_same_seed_gives_the_same_pixels(broken):
    again = render_patient(3, CONFIG)
    for first, second in zip(broken, again, strict=True):
        assert first.truth == second.truth
        assert (first.grey == second.grey).all() and (first.twin_grey == second.twin_grey).all()


def test_shapes_and_types(broken):
    for item in broken:
        assert (item.hu.dtype, item.hu.shape) == (np.float32, (512, 512))
        assert (item.grey.dtype, item.mask.dtype) == (np.uint8, bool)


def test_before_the_scanner_a_twin_differs_near_the_fracture_only(broken):
    for item in broken:
        changed = np.argwhere(item.ideal_hu != item.ideal_twin_hu)
        fracture = np.argwhere(item.mask)
        away = np.abs(changed[:, None, :] - fracture[None, :, :]).max(axis=2).min(axis=1)
        assert len(changed) and away.max() * item.truth.spacing_mm < 20


def test_a_twin_has_noise_of_its_own(broken):
    item = broken[0]
    corner = np.s_[240:272, 60:120]
    assert (item.grey[corner] != item.twin_grey[corner]).any()
