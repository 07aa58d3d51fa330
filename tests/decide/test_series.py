"""The series score: exact aggregation, a calibrated answer, and studies with nothing to say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.core.errors import DataError
from cspine.decide.calibration import sigmoid
from cspine.decide.series import SeriesScore, fit_series, top_mean_logit


def studies(count: int, seed: int = 0, slices: int = 8):
    """Studies of which half are fractured, in two of their slices."""
    rng = np.random.default_rng(seed)
    fractured = np.repeat(np.arange(count) % 2, slices)
    labels = fractured * np.tile(np.arange(slices) < 2, count)
    logits = rng.normal(-1.5, 1.0, count * slices) + 3.0 * labels
    return sigmoid(logits), np.repeat(np.arange(count), slices), labels


def test_the_mean_of_the_highest_logits():
    assert top_mean_logit(sigmoid(np.array([1.0, 3.0, -5.0])), 2) == pytest.approx(2.0)
    assert top_mean_logit(sigmoid(np.array([1.0])), 3) == pytest.approx(1.0)
    # Probabilities of exactly 0 and 1 have no finite logit of their own.
    assert np.isfinite(top_mean_logit(np.array([0.0, 1.0]), 2))


def test_apply_by_hand_leaves_out_what_has_no_probability():
    score = SeriesScore(top=2, scale=2.0, offset=1.0, threshold=0.5)
    answer = score.apply(np.append(sigmoid(np.array([0.0, 1.0, -9.0])), np.nan))
    # The two highest of 0, 1 and −9 average 0.5; 2 · 0.5 + 1 = 2.
    assert answer == pytest.approx(sigmoid(np.array(2.0)))
    assert score.apply(np.array([np.nan])) is None
    assert score.apply(np.array([])) is None


def test_the_fit_is_calibrated_on_new_studies():
    score = fit_series(*studies(800))
    probabilities, groups, labels = studies(800, seed=1)
    names, scores = score.apply_groups(probabilities, groups)
    truths = np.array([labels[groups == name].max() for name in names])
    assert scores.mean() == pytest.approx(truths.mean(), abs=0.03)
    assert scores[truths == 1].mean() - scores[truths == 0].mean() > 0.5
    assert (scores[truths == 1] >= score.threshold).mean() == pytest.approx(0.95, abs=0.03)


def test_study_labels_do_as_well_as_slice_labels():
    probabilities, groups, labels = studies(200)
    by_study = np.array([labels[groups == g].max() for g in groups])
    assert fit_series(probabilities, groups, by_study) == fit_series(probabilities, groups, labels)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_the_order_of_slices_does_not_matter(slices, random):
    score = SeriesScore(3, 1.3, -0.2, 0.5)
    shuffled = slices.copy()
    random.shuffle(shuffled)
    assert score.apply(np.array(slices)) == pytest.approx(score.apply(np.array(shuffled)))


def test_one_kind_of_study_is_named():
    with pytest.raises(DataError, match="one kind"):
        fit_series(np.array([0.2, 0.8]), np.array(["a", "b"]), np.array([0, 0]))
