"""The distance: exact by hand, tight on strangers, finite on anything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cspine.core.errors import DataError
from cspine.decide.out_of_distribution import MAX_CENTRES, InDistribution, fit_distance


def embeddings(count: int, dimensions: int = 96, seed: int = 0) -> np.ndarray:
    """Images of four kinds that lie apart, each unit with a spread of its own."""
    rng = np.random.default_rng(seed)
    kinds = draw_kinds(4, dimensions, 99)[rng.integers(4, size=count)]
    return (kinds + rng.normal(size=kinds.shape)) * np.linspace(0.5, 2, dimensions)


def strangers(count: int, dimensions: int = 96) -> np.ndarray:
    """No unit of theirs is unusual, but they are of no known kind."""
    return draw_kinds(count, dimensions, 3) * np.linspace(0.5, 2, dimensions)


def draw_kinds(count: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (count, dimensions))


def test_the_score_by_hand():
    centres = np.array([[0.0, 0.0], [4.0, 1.0]], np.float32)
    gate = InDistribution(centres, 0.5, 0.9, np.array([2.0, 1.0], np.float32))
    # (1, 0) is (2, 0) in scale, and 4 from the first centre; over 2 units that is 2.
    assert gate.score(np.array([[1.0, 0.0], [2.0, 2.0], [0.0, 0.0]])).tolist() == [2.0, 0.5, 0.0]
    assert gate.accepts(np.array([[2.0, 2.0], [2.0, 2.1]])).tolist() == [True, False]


def test_groups_that_lie_apart_each_have_their_centre():
    rng = np.random.default_rng(1)
    groups = np.repeat([[0.0, 9.0], [9.0, 0.0], [9.0, 9.0]], 100, axis=0)
    gate = fit_distance(groups + rng.normal(0, 0.1, groups.shape), 1.0)
    # Far from all three, and nearer to their common mean than any of them.
    assert gate.accepts(np.array([[0.0, 9.0], [9.0, 9.0], [6.0, 6.0]])).tolist() == [
        True,
        True,
        False,
    ]


def test_held_out_are_accepted_at_the_stated_share_and_strangers_are_not():
    gate = fit_distance(embeddings(1000), 0.99, held_out=embeddings(500, seed=1))
    assert gate.accepts(embeddings(500, seed=1)).mean() == pytest.approx(0.99, abs=0.003)
    assert gate.accepts(embeddings(500, seed=2)).mean() > 0.96
    assert not gate.accepts(strangers(200)).any()


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
    known = np.random.default_rng(0).normal(size=(800, 200))
    gate = fit_distance(known)
    assert gate.centres.shape == (MAX_CENTRES, 200)
    assert gate.centres.dtype == gate.gains.dtype == np.float32
    # These units are not rectified.
    assert gate.gains == pytest.approx(1 / known.std(axis=0)) and gate.floors is None
    # A centre of one image would tell how well it is remembered, not how typical it is.
    assert len(fit_distance(known[:30]).centres) == 7


def test_rectified_units_are_judged_by_their_logarithms():
    known = np.exp(0.5 * embeddings(400, 24))
    known[:, 3] = 0.0
    gate = fit_distance(
        known, 0.99, held_out=np.exp(0.5 * embeddings(400, 24, seed=1)) * (np.arange(24) != 3)
    )
    assert gate.floors.shape == (24,) and (gate.floors > 0).all()
    scaled = np.log(known[:2] + gate.floors) * gate.gains
    assert gate.scale(known[:2]) == pytest.approx(scaled)
    stranger = np.exp(0.5 * strangers(200, 24))
    stranger[:, 3] = 0.0
    assert gate.accepts(stranger).mean() < 0.05
    never = known[:1].copy()
    # A unit that was always 0, for once like the others.
    never[0, 3] = known.mean()
    assert not gate.accepts(never)[0]


@pytest.mark.parametrize("rectify", [np.asarray, np.exp, lambda units: np.maximum(units, 0.0)])
@pytest.mark.parametrize("count", [40, 60, 81, 250])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_distances_of_folds_set_a_threshold_for_the_centres_of_all(rectify, count, seed):
    known = rectify(embeddings(count, 64, seed))
    # 32 to 200 for each fold to learn from: fewer than the units, as many, and more.
    fold = np.arange(count) % 5
    distances = [fit_distance(known[fold != k]).score(known[fold == k]) for k in range(5)]
    pooled = np.concatenate(distances)
    gate = fit_distance(known).with_threshold(pooled)
    assert gate.accepts(rectify(embeddings(1000, 64, seed + 10))).mean() >= 0.9
    # Not by accepting all, as where the networks of two folds had a scale of their own.
    assert gate.accepts(rectify(strangers(1000, 64))).mean() <= 0.05


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
