"""The image checks: 500 pictures that are no neck CT are refused, synthetic slices pass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cspine.decide.image_checks import check_image
from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import render_patient
from support.non_ct import KINDS, draw_picture

EACH = 84


@pytest.fixture(scope="module")
def slices() -> list[np.ndarray]:
    """80 synthetic slices of ten patients, uint8 (512, 512)."""
    config = PhantomConfig(seed=31)
    return [item.grey for number in range(10) for item in render_patient(number, config)]


def test_at_most_one_in_a_hundred_of_500_other_pictures_passes(slices):
    pictures = [draw_picture(kind, seed) for kind in KINDS for seed in range(EACH)]
    pictures += [255 - grey for grey in slices]
    assert len(pictures) == 500
    passed = [i for i, grey in enumerate(pictures) if check_image(grey, False) is None]
    assert len(passed) <= 5, [divmod(i, EACH) for i in passed]


def test_synthetic_slices_pass(slices):
    reasons = [check_image(grey, False) for grey in slices]
    assert sum(reason is not None for reason in reasons) <= 1, set(reasons)


def test_a_turned_mirrored_or_shrunk_slice_passes(slices):
    for grey in slices[::10]:
        for picture in (grey[:, ::-1], np.rot90(grey), grey[::2, ::2]):
            assert check_image(picture, False) is None


def test_the_reason_is_named(slices):
    assert "colour" in check_image(slices[0], True)
    assert "too small" in check_image(slices[0][:40, :40], False)
    assert "narrow" in check_image(slices[0][:100], False)
    assert "inverted" in check_image(255 - slices[0], False)
    assert "blank" in check_image(np.full((512, 512), 90, np.uint8), False)
    noise = np.random.default_rng(0).integers(0, 256, (512, 512)).astype(np.uint8)
    assert "noise" in check_image(noise, False)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 140), st.integers(1, 140)).flatmap(
        lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 255), fill=st.just(0))
    ),
    st.booleans(),
)
def test_any_picture_gets_an_answer(grey, is_colour):
    reason = check_image(grey, is_colour)
    assert reason is None or reason.endswith(".")
