"""The precedence, case by case, and the round trip through a card and its arrays."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.core.errors import ArtifactError
from cspine.decide.calibration import Calibration
from cspine.decide.conformal import Conformal
from cspine.decide.out_of_distribution import fit_distance
from cspine.decide.policy import DecisionPolicy, read_series
from cspine.decide.study_score import NormalLogits, SeriesScore
from cspine.decide.threshold import Threshold

KNOWN = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


def make_policy(threshold=0.5, normal=0.6, fracture=0.6, series=True) -> DecisionPolicy:
    return DecisionPolicy(
        Calibration("beta", 0.8, -0.3, 0.8),
        Threshold(threshold, "sensitivity", 0.95),
        Conformal(0.1, normal, fracture),
        fit_distance(KNOWN, 1.0),
        SeriesScore(2, 1.1, 0.2, 0.4, NormalLogits((-2.5, 0.5, 3.0), 40)) if series else None,
    )


def test_a_class_alone_in_its_set_and_on_its_side_is_named():
    probabilities = np.array([0.1, 0.5, 0.9])
    answers = make_policy().predict(probabilities, np.ones(3, bool))
    # 0.5 leaves both possible.
    assert answers == ["normal", "uncertain", "fracture"]


def test_a_set_against_the_threshold_is_uncertain():
    # At 0.4 only "normal" is possible, and the threshold says fracture.
    policy = make_policy(threshold=0.3, normal=0.6, fracture=0.55)
    assert policy.predict(np.array([0.4, 0.2, 0.7]), np.ones(3, bool)) == [
        "uncertain",
        "normal",
        "fracture",
    ]


def test_an_empty_set_is_uncertain():
    assert make_policy(normal=0.2, fracture=0.2).predict(np.array([0.5]), np.ones(1, bool)) == [
        "uncertain"
    ]


def test_a_stranger_is_uncertain_whatever_its_probability():
    policy = make_policy()
    far = np.full((1, 6), 100.0)
    seen = policy.decide(
        np.array([9.0, 9.0, 9.0]), np.vstack([KNOWN[:2], far]), [True, False, True]
    )
    assert seen.prediction == ["fracture", "uncertain", "uncertain"]
    assert seen.in_distribution.tolist() == [True, False, False]
    # 0.8 · 9 − 0.3 = 6.9: with equal slopes beta is linear.
    assert seen.probability == pytest.approx(np.full(3, 1 / (1 + np.exp(-6.9))))


@pytest.mark.parametrize("series", [True, False])
def test_card_and_arrays_rebuild_the_same_policy(series):
    policy = make_policy(series=series)
    text = json.dumps(policy.to_dict(), allow_nan=False)
    assert len(text) < 2000
    again = DecisionPolicy.from_parts(json.loads(text), policy.arrays())
    assert again.to_dict() == policy.to_dict()
    logits = np.linspace(-5, 5, 50)
    before, after = (p.decide(logits, KNOWN, np.ones(50, bool)) for p in (policy, again))
    assert (before.probability == after.probability).all()
    assert before.prediction == after.prediction


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_named_class_meets_every_condition(p, threshold, normal, fracture, known):
    policy = make_policy(threshold, normal, fracture)
    answer = policy.predict(np.array([p]), np.array([known]))[0]
    # The conformal set by its definition, not by the code under test.
    both = (p <= normal, 1 - p <= fracture)
    if answer == "fracture":
        assert known and p >= threshold and both == (False, True)
    elif answer == "normal":
        assert known and p < threshold and both == (True, False)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("calibration", "scale", float("nan")),
        ("calibration", "scale", -1.0),
        ("calibration", "offset", "1"),
        ("calibration", "method", 3),
        ("threshold", "value", 1.5),
        ("conformal", "alpha", True),
        ("conformal", "quantiles", None),
        ("in_distribution", "threshold", -1.0),
        ("series", "top", float("inf")),
    ],
)
def test_a_bad_card_is_refused_by_name(part, name, value):
    policy = make_policy()
    decision = policy.to_dict()
    decision[part] = {**decision[part], name: value}
    with pytest.raises(ArtifactError, match=name):
        DecisionPolicy.from_parts(decision, policy.arrays())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantiles", [1.0]),
        ("quantiles", [0.0] * 1001),
        ("quantiles", "12"),
        ("quantiles", [0.0, float("nan")]),
        ("quantiles", [1.0, 0.0]),
        ("slices", 0),
    ],
)
def test_bad_normal_quantiles_are_refused_by_name(name, value):
    series = make_policy().to_dict()["series"]
    with pytest.raises(ArtifactError, match=name):
        read_series({"series": {**series, "normal": {**series["normal"], name: value}}})


def test_bad_arrays_are_refused():
    policy = make_policy()
    for name, array in policy.arrays().items():
        with pytest.raises(ArtifactError):
            DecisionPolicy.from_parts(
                policy.to_dict(), {**policy.arrays(), name: array[:1] * np.nan}
            )
        without = {key: value for key, value in policy.arrays().items() if key != name}
        with pytest.raises(ArtifactError, match=name):
            DecisionPolicy.from_parts(policy.to_dict(), without)


def test_an_unknown_scaling_is_refused():
    policy = make_policy()
    decision = policy.to_dict()
    assert decision["in_distribution"]["scaling"] == "linear"
    other = {**decision["in_distribution"], "scaling": ["log"]}
    with pytest.raises(ArtifactError, match="scaling"):
        DecisionPolicy.from_parts({**decision, "in_distribution": other}, policy.arrays())
    log = {**decision["in_distribution"], "scaling": "log"}
    with pytest.raises(ArtifactError, match="floors"):
        DecisionPolicy.from_parts({**decision, "in_distribution": log}, policy.arrays())
