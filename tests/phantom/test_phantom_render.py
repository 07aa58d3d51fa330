"""Rendering: the same seed gives the same pixels, and a twin differs by its fracture alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import render_patient

# Made by `block_sums(render_patient(3, CONFIG))` when phantom-v1 was frozen.
FROZEN = Path(__file__).parent / "phantom_v1_blocks.npy"
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


def block_sums(items):
    """Grey levels, twins' and masks' pixels summed over blocks of 16²: int (slices, 3, 32, 32)."""
    pictures = [[item.grey, item.twin_grey, item.mask] for item in items]
    return np.array(pictures, np.uint32).reshape(-1, 3, 32, 16, 32, 16).sum(axis=(3, 5))


def test_phantom_v1_is_frozen(broken):
    # Sums forgive the few pixels that another processor's sine rounds to the next grey level.
    change = np.abs(block_sums(broken).astype(int) - np.load(FROZEN))
    assert change.max() <= 3, "pixels changed: a new version of the phantom is due"
    widths = [item.truth.width_mm for item in broken]
    assert widths == pytest.approx([0.539025, 0.731944, 0.28426], abs=1e-6)
