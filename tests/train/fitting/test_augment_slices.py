"""Augmentation of complete slices: wide, bounded, the same for a slice and its twin."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.train.fitting.augment import augment
from cspine.train.fitting.augment_slices import augment_slices
from cspine.train.fitting.batches import choose_augment


def draw_disc(side=64):
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    disc = np.where(np.hypot(rows, columns) < 0.7, 150, 10)
    disc[np.hypot(rows, columns - 0.3) < 0.2] = 240
    return disc.astype(np.uint8)


def run(images, units, seed=0):
    return augment_slices(images, None, np.asarray(units), np.random.default_rng(seed))[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), side=st.integers(48, 100))
def test_greys_stay_greys_at_any_size(seed, side):
    found = run(draw_disc(side)[None], [0], seed)
    assert found.shape == (1, side, side)
    assert found.dtype == np.float32
    assert 0.0 <= found.min() <= found.max() <= 255.0


def test_a_slice_and_its_twin_get_the_same_changes():
    images = np.stack([draw_disc()] * 3)
    fracture, twin, other = run(images, [4, 4, 5])
    np.testing.assert_array_equal(fracture, twin)
    assert np.abs(fracture - other).mean() > 5


def test_the_seed_fixes_the_draw():
    images = np.stack([draw_disc()] * 2)
    np.testing.assert_array_equal(run(images, [0, 1], 3), run(images, [0, 1], 3))
    assert not np.array_equal(run(images, [0, 1], 3), run(images, [0, 1], 4))


def test_brightness_says_little_about_the_slice():
    dark, bright = draw_disc() // 2, np.clip(draw_disc().astype(int) + 60, 0, 255).astype(np.uint8)
    means = [run(np.stack([one] * 200), np.arange(200)).mean((1, 2)) for one in (dark, bright)]
    # Without augmentation every bright slice is brighter than every dark one.
    above = np.mean(means[1][:, None] > means[0][None])
    assert 0.5 < above < 0.95


def test_complete_slices_without_masks_are_augmented_as_slices():
    assert choose_augment("slice", with_masks=False) is augment_slices
    assert choose_augment("slice", with_masks=True) is augment
    assert choose_augment("vertebra", with_masks=False) is augment
    assert choose_augment(None, with_masks=False) is augment
