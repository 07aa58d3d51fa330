"""The series score: exact aggregation, a calibrated answer, and studies with nothing to say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.core.errors import DataError
from cspine.decide.calibration import sigmoid
from cspine.decide.study_score import NormalLogits, SeriesScore, fit_normal, fit_series, top_excess


def studies(count: int, seed: int = 0, slices: int = 8):
    """Studies of which half are fractured, in two of their slices."""
    rng = np.random.default_rng(seed)
    fractured = np.repeat(np.arange(count) % 2, slices)
    labels = fractured * np.tile(np.arange(slices) < 2, count)
    logits = rng.normal(-1.5, 1.0, count * slices) + 3.0 * labels
    return sigmoid(logits), np.repeat(np.arange(count), slices), labels


def test_the_mean_of_the_highest_logits():
    normal = NormalLogits((0.0, 0.0), 3)
    assert top_excess(sigmoid(np.array([1.0, 3.0, -5.0])), 2, normal) == pytest.approx(2.0)
    assert top_excess(sigmoid(np.array([1.0])), 3, normal) == pytest.approx(1.0)
    # Probabilities of exactly 0 and 1 have no finite logit of their own.
    assert np.isfinite(top_excess(np.array([0.0, 1.0]), 2, normal))


def test_what_a_normal_study_would_show_is_taken_off():
    # Tails 1, 1/2 and 1/4, the finest that three slices tell.
    normal = NormalLogits((-4.0, 0.0, 2.0), 3)
    assert normal.expected(3, 2).tolist() == pytest.approx([2.0, 0.0])
    assert normal.expected(1, 5).tolist() == pytest.approx([0.0])
    # (5 − 2 + 1 − 0) / 2 = 2.
    assert top_excess(sigmoid(np.array([1.0, 5.0, -9.0])), 2, normal) == pytest.approx(2.0)
    score = SeriesScore(2, 1.0, 0.0, 0.5, normal)
    assert score.apply(sigmoid(np.array([1.0, 5.0, -9.0]))) == pytest.approx(sigmoid(2.0))
    # Of a fourth slice's rank three normal ones say nothing.
    assert score.covers(3) and not score.covers(4) and score.apply(np.full(4, 0.5)) is None


def test_normal_slices_are_kept_as_rising_quantiles():
    normal = fit_normal(sigmoid(np.array([3.0, -1.0, 1.0])))
    assert normal.slices == 3 and len(normal.quantiles) == 65
    # The i-th lowest of three stands at i / 4.
    assert [normal.quantiles[i] for i in (0, 32, 64)] == [-1.0, 1.0, 3.0]
    assert (np.diff(normal.quantiles) >= 0).all()


def test_more_slices_do_not_make_a_fracture():
    score = fit_series(*studies(200))
    called = {}
    for slices in (8, 24, 100, 300):
        probabilities, groups, labels = studies(200, seed=1, slices=slices)
        truths = labels.reshape(200, slices).max(axis=1)
        said = score.apply_groups(probabilities, groups)[1] >= score.threshold
        called[slices] = [said[truths == truth].mean() for truth in (0, 1)]
    assert max(normal for normal, _ in called.values()) <= 0.05
    assert called[8][1] >= 0.85


def test_apply_by_hand_leaves_out_what_has_no_probability():
    score = SeriesScore(2, 2.0, 1.0, 0.5, NormalLogits((0.0, 0.0), 3))
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
    scores = [
        fit_series(probabilities, groups, given).apply_groups(probabilities, groups)[1]
        for given in (by_study, labels)
    ]
    # Not alike: with study labels the normal slices of fractured studies are not known.
    assert np.abs(scores[0] - scores[1]).max() < 0.05


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_the_order_of_slices_does_not_matter(slices, random):
    score = SeriesScore(3, 1.3, -0.2, 0.5, NormalLogits((-2.0, 1.0), 12))
    shuffled = slices.copy()
    random.shuffle(shuffled)
    assert score.apply(np.array(slices)) == pytest.approx(score.apply(np.array(shuffled)))


def test_one_kind_of_study_is_named():
    with pytest.raises(DataError, match="one kind"):
        fit_series(np.array([0.2, 0.8]), np.array(["a", "b"]), np.array([0, 0]))
