"""Batches and augmentation: twins stay together, masks follow, nothing is lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.train.fitting.augment import augment
from cspine.train.fitting.batches import PixelSource, as_pixels, deal_batches, pair_units
from cspine.train.fitting.from_scratch import choose_corners


def test_a_fracture_and_its_twin_share_a_unit(samples):
    units = pair_units(samples)
    for index in np.flatnonzero(samples.is_twin):
        same = np.flatnonzero(units == units[index])
        assert len(same) == 2
        assert set(samples.slice_ids[same]) == {samples.slice_ids[index]}
    # 36 samples, 12 of them twins.
    assert len(np.unique(units)) == 24


@settings(max_examples=25)
@given(count=st.integers(1, 60), size=st.integers(1, 20), seed=st.integers(0, 99))
def test_every_sample_is_dealt_once_before_the_last_batch_is_filled_up(count, size, seed):
    batches = deal_batches(np.arange(count) // 2, size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)[:count]) == list(range(count))
    assert {len(batch) for batch in batches} == {min(size, count)}


def test_masks_follow_their_images():
    images = np.zeros((40, 64, 64), np.uint8)
    masks = np.zeros((40, 8, 8), np.uint8)
    # One bright cell, the same in picture and mask.
    images[:, 24:32, 40:48], masks[:, 3, 5] = 255, 1
    moved, followed = augment(images, masks, np.arange(40), np.random.default_rng(0))
    bright = moved.reshape(40, 8, 8, 8, 8).mean(axis=(2, 4))
    assert (followed.sum(axis=(1, 2)) == 1).all()
    np.testing.assert_array_equal(
        bright.reshape(40, -1).argmax(1), followed.reshape(40, -1).argmax(1)
    )
    # It did move: shifts and mirroring lead to more than a few places.
    assert len(np.unique(followed.reshape(40, -1).argmax(1))) > 5


def test_a_unit_gets_one_draw(samples):
    same = np.repeat(samples.images[:1], 2, axis=0)
    moved, _ = augment(same, None, np.array([7, 7]), np.random.default_rng(1))
    # Only the noise differs.
    assert np.abs(moved[0].mean() - moved[1].mean()) < 1.0
    assert moved.min() >= 0
    assert moved.max() <= 255


def test_without_a_generator_pixels_are_as_they_are(samples):
    source = PixelSource.of(samples, with_masks=True)
    pixels, masks = source.take(np.array([3, 1]), None)
    np.testing.assert_array_equal(pixels, as_pixels(samples.images[[3, 1]]))
    np.testing.assert_array_equal(masks, samples.masks[[3, 1]])
    assert pixels.shape == (2, 32, 32, 3)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), cells=st.integers(3, 8))
def test_a_part_of_a_fracture_shows_it_and_its_twin_follows(seed, cells):
    rng = np.random.default_rng(seed)
    masks = np.zeros((4, 8, 8), np.uint8)
    for mask in masks[:2]:
        mask[tuple(rng.integers(0, 8, 2))] = 1
    corners = choose_corners(masks, np.array([5, 6, 5, 7]), cells, rng)
    for mask, (row, column) in zip(masks[:2], corners[:2], strict=True):
        assert mask[row : row + cells, column : column + cells].any()
    np.testing.assert_array_equal(corners[0], corners[2])
    assert (corners >= 0).all()
    assert (corners <= 8 - cells).all()
