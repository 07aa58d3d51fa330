"""The two views, the crop at the edges, masks, and PNG writing, by exact pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.core.errors import ConfigError
from cspine.core.png import encode_png
from cspine.imaging import preprocess as module
from cspine.imaging.decode import decode_image
from cspine.imaging.preprocess import as_network_input, crop_mask, default_view, preprocess
from cspine.imaging.vertebra.finder import Box
from support.imaging_samples import make_ramp

RAMP = make_ramp(100, 120)


def find(monkeypatch, box):
    monkeypatch.setattr(module, "find_vertebra", lambda grey: box)


@pytest.mark.parametrize(
    "height, width, view",
    [(512, 512, "vertebra"), (384, 384, "vertebra"), (383, 512, "slice"), (224, 224, "slice")],
)
def test_default_view(height, width, view):
    assert default_view(height, width) == view


def test_slice_view_shows_the_whole_image():
    crop = preprocess(RAMP, "slice", 50)
    assert crop.image.shape == (50, 50) and crop.image.dtype == np.uint8
    assert crop.region == Box(0, 0, 120, 100)
    assert abs(crop.image.mean() - RAMP.mean()) < 2


def test_slice_of_the_right_size_is_untouched():
    square = make_ramp(64, 64)
    assert np.array_equal(preprocess(square, "slice", 64).image, square)


def test_slice_resize_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (512, 256))
    middle = preprocess(stripes, "slice", 128).image[8:-8, 8:-8]
    assert np.abs(middle.astype(int) - 127).max() <= 1


def test_vertebra_view_never_resizes(monkeypatch):
    find(monkeypatch, Box(40, 30, 60, 50))
    crop = preprocess(RAMP, "vertebra", 32)
    assert crop.region == Box(34, 24, 66, 56)
    assert np.array_equal(crop.image, RAMP[24:56, 34:66])


@pytest.mark.parametrize("x, y", [(0, 0), (119, 99), (0, 99), (60, 50)])
def test_vertebra_view_fills_with_air(monkeypatch, x, y):
    find(monkeypatch, Box(x, y, x, y))
    crop = preprocess(RAMP, "vertebra", 192)
    padded = np.pad(RAMP, 200)
    y0, x0 = crop.region.y0 + 200, crop.region.x0 + 200
    assert np.array_equal(crop.image, padded[y0 : y0 + 192, x0 : x0 + 192])


def test_no_vertebra_is_none(monkeypatch):
    find(monkeypatch, None)
    assert preprocess(RAMP, "vertebra", 192) is None


def test_unknown_view_is_named():
    with pytest.raises(
        ConfigError, match=r"`view` must be `slice` or `vertebra`\. Received: 'crop'"
    ):
        preprocess(RAMP, "crop", 192)


def test_mask_is_cropped_like_the_image(monkeypatch):
    find(monkeypatch, Box(0, 90, 10, 100))
    crop = preprocess(RAMP, "vertebra", 64)
    assert np.array_equal(crop_mask(RAMP > 100, crop.region, 64), crop.image > 100)


@given(st.integers(0, 511), st.integers(0, 479), st.sampled_from([192, 224, 299]))
@settings(max_examples=50, deadline=None)
def test_hairline_survives_the_resize_of_a_mask(x, y, size):
    mask = np.zeros((480, 512), bool)
    mask[y, x] = True
    small = crop_mask(mask, Box(0, 0, 512, 480), size)
    assert small.shape == (size, size) and small.sum() == 1
    (row,), (column,) = np.nonzero(small)
    assert abs(row + 0.5 - (y + 0.5) * size / 480) <= 0.5
    assert abs(column + 0.5 - (x + 0.5) * size / 512) <= 0.5


def test_network_input_has_three_equal_channels():
    batch = as_network_input(np.stack([RAMP, 255 - RAMP]))
    assert batch.shape == (2, 100, 120, 3) and batch.flags.c_contiguous
    assert (batch == batch[..., :1]).all() and np.array_equal(batch[0, ..., 2], RAMP)


def test_png_round_trip_is_exact_and_repeatable():
    assert np.array_equal(decode_image(encode_png(RAMP)).grey, RAMP)
    assert encode_png(RAMP) == encode_png(RAMP.copy())
