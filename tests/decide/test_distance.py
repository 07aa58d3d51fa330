"""The distance: exact on a known Gaussian, tight on strangers, finite on anything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cspine.core.errors import DataError
from cspine.decide.distance import MAX_AXES, InDistribution, fit_distance


def embeddings(count: int, dimensions: int = 96, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # Six hidden causes of 96 units: known images all share them, strangers do not.
    mixing = np.random.default_rng(99).normal(size=(6, dimensions))
    return rng.normal(size=(count, 6)) @ mixing + 0.1 * rng.normal(size=(count, dimensions))


def test_the_score_by_hand():
    gate = InDistribution(
        np.array([1.0, 0.0], np.float32), np.array([[1.0, 0.0]], np.float32),
        np.array([4.0], np.float32), 0.25, threshold=1.0, quantile=0.9,
    )  # fmt: skip
    assert gate.score(np.array([[3.0, 0.5], [1.0, 0.0]])) == pytest.approx([1.0, 0.0])
    assert gate.accepts(np.array([[3.0, 0.5], [3.1, 0.5]])).tolist() == [True, False]


def test_the_full_rank_score_is_mahalanobis():
    known = np.random.default_rng(1).normal(size=(400, 5)) @ np.diag([1, 2, 3, 4, 5.0])
    gate = fit_distance(known)
    inverse = np.linalg.inv(np.cov(known.T))
    centred = known - known.mean(axis=0)
    # With as many axes as units there is no residual: the textbook formula, over D.
    expected = np.einsum("nd,de,ne->n", centred, inverse, centred) / 5
    assert gate.score(known) == pytest.approx(expected, rel=1e-3)


def test_held_out_are_accepted_at_the_stated_share_and_strangers_are_not():
    gate = fit_distance(embeddings(1000), 0.99, held_out=embeddings(500, seed=1))
    assert gate.accepts(embeddings(500, seed=1)).mean() == pytest.approx(0.99, abs=0.003)
    assert gate.accepts(embeddings(500, seed=2)).mean() > 0.96
    strangers = np.random.default_rng(3).normal(size=(200, 96))
    assert not gate.accepts(strangers).any()
    assert gate.score(embeddings(500, seed=2)).mean() == pytest.approx(1.0, abs=0.1)


def test_a_unit_that_never_moved_tells_a_stranger():
    known = embeddings(300)
    known[:, 7] = 0.0
    stranger = known[:1].copy()
    # In a direction in which training never moved at all.
    stranger[0, 7] = 5.0
    gate = fit_distance(known, 1.0)
    assert gate.accepts(known).all()
    assert not gate.accepts(stranger)[0]


def test_what_is_stored_is_small():
    gate = fit_distance(np.random.default_rng(0).normal(size=(300, 200)))
    assert gate.axes.shape == (MAX_AXES, 200)
    assert gate.axes.dtype == gate.mean.dtype == gate.variances.dtype == np.float32
    assert gate.axes @ gate.axes.T == pytest.approx(np.eye(MAX_AXES), abs=1e-5)
    # These units are not rectified.
    assert gate.gains.shape == (200,) and gate.floors is None


def test_rectified_units_are_judged_by_their_logarithms():
    known = np.exp(embeddings(400, 24))
    known[:, 3] = 0.0
    gate = fit_distance(
        known, 0.99, held_out=np.exp(embeddings(400, 24, seed=1)) * (np.arange(24) != 3)
    )
    assert gate.floors.shape == (24,) and (gate.floors > 0).all()
    scaled = np.log(known[:2] + gate.floors) * gate.gains
    assert gate.scale(known[:2]) == pytest.approx(scaled)
    # What is foretold by the others is off by its own spread, which no single unit shows.
    stranger = np.exp(np.random.default_rng(5).permuted(embeddings(200, 24, seed=2), axis=0))
    stranger[:, 3] = 0.0
    assert gate.accepts(stranger).mean() < 0.05
    never = known[:1].copy()
    # A unit that was always 0, for once like the others.
    never[0, 3] = known.mean()
    assert not gate.accepts(never)[0]


@pytest.mark.parametrize("rectify", [np.asarray, np.exp, lambda units: np.maximum(units, 0.0)])
@pytest.mark.parametrize("count", [30, 60, 81, 250])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_distances_of_folds_set_a_threshold_for_the_gaussian_of_all(rectify, count, seed):
    known = rectify(embeddings(count, 64, seed))
    # 24, 48, 64 or 65, and 200 in each fold: fewer than the units, as many, and more.
    fold = np.arange(count) % 5
    distances = [fit_distance(known[fold != k]).score(known[fold == k]) for k in range(5)]
    pooled = np.concatenate(distances)
    gate = fit_distance(known).with_threshold(pooled)
    assert gate.accepts(rectify(embeddings(1000, 64, seed + 10))).mean() >= 0.9
    strangers = rectify(np.random.default_rng(3).normal(0, 2.4, (1000, 64)))
    # Not by accepting all, as where one fold's Gaussian spans its samples and another's does not.
    assert gate.accepts(strangers).mean() <= 0.05


def test_what_is_not_finite_is_a_stranger():
    gate = fit_distance(embeddings(100), 1.0)
    broken = embeddings(2)
    broken[0, 3], broken[1, 4] = np.nan, np.inf
    assert gate.accepts(broken).tolist() == [False, False]


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, (7, 4), elements=st.floats(-1e3, 1e3, width=32)))
def test_any_training_set_accepts_itself(known):
    gate = fit_distance(known, 1.0)
    assert np.isfinite(gate.score(known)).all()
    assert gate.accepts(known).all()


def test_bad_input_is_named():
    with pytest.raises(DataError, match="embeddings"):
        fit_distance(np.zeros((1, 4)))
    with pytest.raises(DataError, match="held_out"):
        fit_distance(np.zeros((3, 4)), held_out=np.zeros((3, 5)))
    with pytest.raises(DataError, match="scores"):
        fit_distance(np.eye(4)).with_threshold(np.array([1.0, np.nan]))
    with pytest.raises(DataError, match="quantile"):
        fit_distance(np.zeros((3, 4)), quantile=0.0)
