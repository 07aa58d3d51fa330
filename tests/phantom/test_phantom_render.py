"""Rendering: the same seed gives the same pixels, and a twin differs by its fracture alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from cspine.phantom.config import LEVELS, PhantomConfig
from cspine.phantom.render import render_patient

# Made when phantom-v1 was frozen: `blocks`, and `truths` as JSON, of what `frozen_slices` renders.
FROZEN = Path(__file__).parent / "phantom_v1.npz"
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


@pytest.fixture(scope="module")
def frozen_slices():
    """Twelve of four patients: every level, both classes, kernels and fields, iodine and none."""
    config = PhantomConfig(slices_per_patient=3)
    return [item for patient in (0, 3, 5, 7) for item in render_patient(patient, config)]


def block_sums(items):
    """Grey levels, twins' and masks' pixels summed over blocks of 16²: int (slices, 3, 32, 32)."""
    unbroken = np.zeros((512, 512), np.uint8)
    pictures = [
        [item.grey, unbroken if item.twin_grey is None else item.twin_grey, item.mask]
        for item in items
    ]
    return np.array(pictures, np.int32).reshape(-1, 3, 32, 16, 32, 16).sum(axis=(3, 5))


def test_the_frozen_slices_are_of_every_kind(frozen_slices):
    assert {item.truth.level for item in frozen_slices} == set(LEVELS)
    assert {item.truth.label for item in frozen_slices} == {0, 1}
    patients = [item.patient for item in frozen_slices]
    assert {one.round_field for one in patients} == {None, "white", "black"}
    assert (
        {one.bone_kernel for one in patients} == {one.contrast for one in patients} == {True, False}
    )


def test_the_pixels_of_phantom_v1_are_frozen(frozen_slices):
    # Sums forgive the few pixels that another processor's sine rounds to the next grey level.
    change = np.abs(block_sums(frozen_slices) - np.load(FROZEN)["blocks"])
    assert change.max() <= 3, "pixels changed: a new version of the phantom is due"


def test_the_truth_of_phantom_v1_is_frozen(frozen_slices):
    kept = json.loads(str(np.load(FROZEN)["truths"]))
    for item, truth in zip(frozen_slices, kept, strict=True):
        for name, value in asdict(item.truth).items():
            same = pytest.approx(truth[name]) if isinstance(value, float) else truth[name]
            assert value == same, (item.truth.slice_id, name)
