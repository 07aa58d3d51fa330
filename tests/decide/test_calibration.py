"""Calibration: known parameters come back, order stays, and degenerate data give finite answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from cspine.core.errors import DataError
from cspine.decide.calibration import MIN_SCALE, Calibration, fit_calibration, sigmoid


def draw(count: int, scale: float, offset: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, count)
    return logits, (rng.random(count) < sigmoid(scale * logits + offset)).astype(int)


def test_sigmoid_is_exact_and_does_not_overflow():
    # Odds of 1 and of 3.
    assert sigmoid(np.array([0.0, np.log(3)])) == pytest.approx([0.5, 0.75], abs=1e-15)
    assert sigmoid(np.array([-1e6, 1e6])).tolist() == [0.0, 1.0]


def test_apply_is_the_formula():
    assert Calibration("platt", 2.0, -1.0).apply(np.array([0.5])) == pytest.approx([0.5])


def test_temperature_and_platt_are_recovered():
    logits, labels = draw(40_000, 0.5, 0.0)
    fitted = fit_calibration(logits, labels, method="temperature")
    assert fitted.scale == pytest.approx(0.5, abs=0.02)
    assert fitted.offset == 0
    logits, labels = draw(40_000, 0.7, -1.2)
    fitted = fit_calibration(logits, labels, method="platt")
    assert (fitted.scale, fitted.offset) == pytest.approx((0.7, -1.2), abs=0.05)


def test_platt_agrees_with_scikit_learn():
    logits, labels = draw(5_000, 0.8, 0.4)
    # Without a penalty; what is left to differ are Platt's smoothed targets.
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], labels)
    ours = fit_calibration(logits, labels, method="platt")
    assert ours.scale == pytest.approx(theirs.coef_.item(), rel=0.01)
    assert ours.offset == pytest.approx(theirs.intercept_.item(), abs=0.01)


def test_the_method_is_chosen_out_of_fold():
    # An offset that no temperature can make: Platt must win where slices were left out.
    shifted = draw(4_000, 1.0, -2.0)
    assert fit_calibration(*shifted, groups=np.arange(4_000) // 8).method == "platt"


def test_separable_data_give_a_finite_scale():
    fitted = fit_calibration(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1]))
    assert np.isfinite(fitted.scale)
    assert (fitted.apply(np.array([-1e9, 1e9])) == sigmoid(np.array([-30, 30]))).all()


def test_a_model_worse_than_chance_answers_the_base_rate():
    labels = np.repeat([1, 0, 0, 0], 25)
    fitted = fit_calibration(np.where(labels == 1, -1.0, 1.0), labels, method="platt")
    assert fitted.scale == MIN_SCALE
    # A quarter are fractures; Platt smooths that a little upwards.
    assert fitted.apply(np.array([0.0])) == pytest.approx([0.255], abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-40, 40), st.booleans()), min_size=2, max_size=60))
def test_probabilities_are_finite_and_keep_the_order(pairs):
    logits, labels = np.array([p[0] for p in pairs]), np.array([int(p[1]) for p in pairs])
    if labels.min() == labels.max():
        labels[0] = 1 - labels[0]
    fitted = fit_calibration(logits, labels)
    assert fitted.scale >= MIN_SCALE
    probabilities = fitted.apply(np.sort(logits))
    assert np.isfinite(probabilities).all()
    assert (np.diff(probabilities) >= 0).all()


@pytest.mark.parametrize(
    ("logits", "labels", "text"),
    [
        ([1.0, 2.0], [1, 1], "both classes"),
        ([1.0, np.nan], [0, 1], "finite"),
        ([1.0], [0, 1], "same length"),
    ],
)
def test_bad_input_is_named(logits, labels, text):
    with pytest.raises(DataError, match=text):
        fit_calibration(np.array(logits), np.array(labels))


def test_an_unknown_method_is_named():
    with pytest.raises(DataError, match="isotonic"):
        fit_calibration(np.array([0.0, 1.0]), np.array([0, 1]), method="isotonic")


def test_beta_is_recovered_chosen_and_keeps_the_order():
    # Sure of fractures, never as sure of their absence: what beta is for.
    truth = Calibration("beta", 1.2, 0.1, 0.3)
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 4, 40_000)
    labels = (rng.random(40_000) < truth.apply(logits)).astype(int)
    fitted = fit_calibration(logits, labels, groups=np.arange(40_000) // 8)
    assert fitted.method == "beta"
    assert (fitted.scale, fitted.low_scale) == pytest.approx((1.2, 0.3), abs=0.06)
    assert fitted.offset == pytest.approx(0.1, abs=0.08)
    assert (np.diff(fitted.apply(np.linspace(-12, 12, 200))) > 0).all()


def test_beta_with_equal_slopes_is_platt():
    logits = np.linspace(-40, 40, 17)
    platt, beta = Calibration("platt", 0.7, -0.4), Calibration("beta", 0.7, -0.4, 0.7)
    assert beta.margin(logits) == pytest.approx(platt.margin(logits), abs=1e-12)


def test_a_slope_that_would_turn_the_order_round_falls_back_to_platt():
    logits = np.linspace(-4, 4, 400)
    # Fractures at both ends: one of the two slopes comes out negative.
    labels = (np.abs(logits) > 2).astype(int)
    assert fit_calibration(logits, labels, method="beta").method == "platt"


@pytest.mark.parametrize("logits", [[0.0, 0.0, 0.0], [1e-13, 0.0, -1e-13], [5.0, 5.0, 5.0]])
def test_logits_that_hardly_differ_give_finite_probabilities(logits):
    for method in ("temperature", "platt", "beta"):
        fitted = fit_calibration(np.array(logits), np.array([0, 1, 1]), method=method)
        assert np.isfinite(fitted.apply(np.array([-3.0, 0.0, 3.0]))).all()
