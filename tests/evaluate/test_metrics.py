"""Every figure against scikit-learn or by hand; the bootstrap draws patients, not slices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from cspine.core.errors import DataError
from cspine.decide.study_score import NormalLogits, SeriesScore
from cspine.evaluate.metrics import (
    METRICS,
    _figures,
    auroc_by_width,
    compute_metrics,
    compute_patient_metrics,
    paired_bootstrap_difference,
)
from cspine.stats.bootstrap import draw_weights
from cspine.stats.intervals import Interval, percentile_interval, wilson_interval


def draw(count=300, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.4).astype(int)
    labels[:2] = 0, 1
    probabilities = 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1.5)))
    return labels, np.round(probabilities, 2) if ties else probabilities


def from_scikit(labels, p, weights, threshold):
    called = p >= threshold
    fpr, tpr, _ = sk.roc_curve(labels, p, sample_weight=weights, drop_intermediate=False)
    return {
        "loss": sk.log_loss(labels, np.clip(p, 1e-7, 1 - 1e-7), sample_weight=weights),
        "accuracy": sk.accuracy_score(labels, called, sample_weight=weights),
        "accuracy_at_half": sk.accuracy_score(labels, p >= 0.5, sample_weight=weights),
        "precision": sk.precision_score(labels, called, sample_weight=weights),
        "recall": sk.recall_score(labels, called, sample_weight=weights),
        "specificity": sk.recall_score(labels, called, sample_weight=weights, pos_label=0),
        "npv": sk.precision_score(labels, called, sample_weight=weights, pos_label=0),
        "auroc": sk.roc_auc_score(labels, p, sample_weight=weights),
        "auprc": sk.average_precision_score(labels, p, sample_weight=weights),
        "brier": sk.brier_score_loss(labels, p, sample_weight=weights),
        "sensitivity_at_95_specificity": tpr[fpr <= 0.05 + 1e-12].max(),
        "specificity_at_95_sensitivity": 1 - fpr[tpr >= 0.95 - 1e-12].min(),
    }


@pytest.mark.parametrize("seed", range(5))
def test_every_figure_is_that_of_scikit_learn(seed):
    labels, p = draw(seed=seed)
    ours = compute_metrics(labels, p, 0.4, resamples=10)
    assert set(ours) == set(METRICS)
    for name, expected in from_scikit(labels, p, None, 0.4).items():
        assert ours[name].value == pytest.approx(expected, abs=1e-9), name


def test_a_weighted_figure_is_that_of_scikit_learn():
    labels, p = draw()
    weights = np.random.default_rng(1).integers(0, 4, (3, len(labels))).astype(float)
    ours = _figures(labels, p, 0.4, weights)
    for row in range(3):
        for name, expected in from_scikit(labels, p, weights[row], 0.4).items():
            assert ours[name][row] == pytest.approx(expected, abs=1e-9), name


def test_a_weight_of_two_is_a_slice_that_stands_twice():
    labels, p = draw(ties=False)
    weights = np.random.default_rng(2).integers(0, 3, len(labels))
    doubled = np.repeat(labels, weights), np.repeat(p, weights)
    ours = _figures(labels, p, 0.5, weights[None].astype(float))
    for name, interval in compute_metrics(*doubled, 0.5, resamples=1).items():
        # A doubled slice may straddle two bins.
        tolerance = 0.02 if name == "ece" else 1e-9
        assert ours[name][0] == pytest.approx(interval.value, abs=tolerance), name


def test_calibration_error_by_hand():
    p = np.repeat(np.arange(15) / 15 + 0.02, 20)
    labels = np.tile(np.arange(20) < 10, 15).astype(int)
    # A bin for each probability, and half of its slices fractured.
    expected = np.abs(np.arange(15) / 15 + 0.02 - 0.5).mean()
    assert compute_metrics(labels, p, 0.5, resamples=1)["ece"].value == pytest.approx(expected)


def test_the_interval_covers_the_truth_over_patients():
    """Slices of a patient are alike; drawing them alone would cover far less than 95 %."""
    held = {"groups": 0, "files": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        patient = np.repeat(np.arange(40), 10)
        labels = patient % 2
        # Ten equal slices a patient: the worst case for drawing slices alone.
        scores = 1 / (1 + np.exp(-np.repeat(rng.normal(0, 1, 40), 10) - labels))
        for name, groups in (("groups", patient), ("files", None)):
            auroc = compute_metrics(labels, scores, 0.5, groups, resamples=200)["auroc"]
            # Φ(1/√2).
            held[name] += auroc.low <= 0.7602 <= auroc.high
    # 57 of 60 are expected at 95 %; 51 leaves room for chance, 35 is far from it.
    assert held["groups"] >= 51
    assert held["files"] <= 35


def test_whole_patients_are_drawn():
    codes = np.repeat(np.arange(5), [1, 2, 3, 4, 5])
    weights = np.concatenate(list(draw_weights(codes, 50, seed=0)))
    assert weights.shape == (50, 15)
    for code in range(5):
        assert (np.ptp(weights[:, codes == code], axis=1) == 0).all()
    first = np.unique(codes, return_index=True)[1]
    # As many patients as there are, whatever their number of slices.
    assert (weights[:, first].sum(axis=1) == 5).all()


def test_one_patient_gives_no_interval_and_one_class_no_auroc():
    labels, p = draw(50)
    alone = compute_metrics(labels, p, 0.5, np.zeros(50), resamples=20)["auroc"]
    assert np.isnan(alone.low) and np.isfinite(alone.value)
    assert alone.to_dict() == {"value": alone.value, "low": None, "high": None}
    normal = compute_metrics(np.zeros(50, int), p, 0.5, resamples=20)
    assert np.isnan(normal["auroc"].value) and np.isnan(normal["recall"].value)
    assert normal["specificity"].low <= normal["specificity"].value <= normal["specificity"].high


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.floats(0, 1))
def test_figures_are_shares_and_lie_in_their_intervals(seed, count, threshold):
    labels, p = draw(count, seed)
    for name, figure in compute_metrics(labels, p, threshold, resamples=50).items():
        if np.isfinite(figure.value) and name != "loss":
            assert -1e-12 <= figure.value <= 1 + 1e-12, name
        if np.isfinite(figure.low):
            assert figure.low <= figure.high, name


def test_the_same_seed_gives_the_same_interval():
    first, second = (compute_metrics(*draw(), 0.5, resamples=50, seed=3) for _ in range(2))
    assert first == second


def test_bands_hold_their_fractures_against_all_normal_slices():
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    p = np.array([0.1, 0.2, 0.6, 0.15, 0.5, 0.9, 0.95])
    widths = np.array([np.nan] * 3 + [0.3, 0.9, 1.2, 3.0])
    groups = np.array(["a", "a", "b", "b", "c", "d", "d"])
    bands = {b.name: b for b in auroc_by_width(labels, p, widths, groups, resamples=10)}
    assert list(bands) == [
        "0.2–0.5 mm",
        "0.8–1 mm",
        "1–1.5 mm",
        "1.5–3 mm",
        "≥ 1 mm",
        "all",
    ]
    # 0.15 lies above one of three normal slices; 0.5 above two.
    assert bands["0.2–0.5 mm"].auroc.value == pytest.approx(1 / 3)
    assert bands["0.8–1 mm"].auroc.value == pytest.approx(2 / 3)
    assert bands["≥ 1 mm"].auroc.value == 1.0
    wide = bands["≥ 1 mm"]
    assert (wide.fractures, wide.fractured_patients, wide.patients) == (2, 1, 3)
    assert bands["all"].fractures == 4
    assert bands["all"].sensitivity.value == pytest.approx(3 / 4)


def test_patients_are_scored_by_the_series_rule():
    labels = np.array([0, 1, 0, 0, 0])
    p = np.array([0.2, 0.9, 0.1, np.nan, np.nan])
    groups = np.array(["a", "a", "b", "b", "c"])
    rule = SeriesScore(1, 1.0, 0.0, 0.5, NormalLogits((0.0, 0.0), 5))
    figures = compute_patient_metrics(labels, p, groups, rule)
    assert figures["auroc"].value == figures["accuracy"].value == 1.0
    assert figures["brier"].value == pytest.approx((0.1**2 + 0.1**2) / 2)


def test_the_paired_difference_cancels_what_both_share():
    labels, p = draw(500, ties=False)
    groups = np.arange(500) // 5
    same = paired_bootstrap_difference(labels, p, p, groups, resamples=50)
    assert same == Interval(0.0, 0.0, 0.0)
    worse = np.random.default_rng(0).permutation(p)
    loss = paired_bootstrap_difference(labels, p, worse, groups, resamples=200)
    assert loss.low > 0.1
    # Rounding to two digits moves hardly a rank: the difference must be seen to be small.
    nearly = paired_bootstrap_difference(labels, p, np.round(p, 2), groups, resamples=200)
    assert nearly.high - nearly.low < 0.01


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (17, 20, 0.6395811352592431, 0.9476312541037835),
        (0, 10, 0.0, 0.2775327998628892),
        (10, 10, 0.7224672001371107, 1.0),
        (1, 3, 0.0614919447203962, 0.7923403991979523),
    ],
)
def test_the_wilson_interval(count, total, low, high):
    interval = wilson_interval(count, total)
    assert interval.value == count / total
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


def test_mostly_missing_resamples_give_no_interval():
    interval = percentile_interval(0.5, np.array([np.nan, np.nan, np.nan, 0.5]))
    assert np.isnan(interval.low)
    assert Interval.from_dict(interval.to_dict()).value == 0.5


@pytest.mark.parametrize(
    ("labels", "p", "text"),
    [
        ([], [], "at least 1"),
        ([0, 1], [0.5], "the same length"),
        ([0, 2], [0.5, 0.5], "0 or 1"),
        ([0, 1], [0.5, np.nan], "from 0 to 1"),
    ],
)
def test_bad_input_is_named(labels, p, text):
    with pytest.raises(DataError, match=text):
        compute_metrics(np.array(labels, int), np.array(p), 0.5)


def test_groups_of_another_length_are_named():
    with pytest.raises(DataError, match="groups"):
        compute_metrics(np.array([0, 1]), np.array([0.2, 0.8]), 0.5, groups=np.array(["a"]))
