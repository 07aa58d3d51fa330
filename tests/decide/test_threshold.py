"""The threshold: exact on small cases, and it keeps its promise on any scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspine.core.errors import DataError
from cspine.decide.threshold import Threshold, choose_threshold

SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8])
LABELS = np.array([0, 0, 1, 0, 1, 1])


def test_all_fractures_called():
    # The lowest fracture is at 0.3, the slice below it at 0.2.
    assert choose_threshold(SCORES, LABELS, target=1.0).value == pytest.approx(0.25)


def test_two_of_three_fractures_called():
    # Two of three is 0.667: fractures at 0.6 and 0.8, midway to the normal slice at 0.4.
    chosen = choose_threshold(SCORES, LABELS, target=0.66)
    assert chosen == Threshold(pytest.approx(0.5), "sensitivity", 0.66)


def test_youden_takes_the_largest_index():
    chosen = choose_threshold(np.array([0.1, 0.2, 0.6, 0.7]), np.array([0, 0, 1, 1]), "youden")
    assert chosen == Threshold(pytest.approx(0.4), "youden", None)


def test_at_the_threshold_is_fracture():
    assert Threshold(0.5, "youden", None).apply(np.array([0.49, 0.5])).tolist() == [False, True]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=50),
    st.floats(0.05, 1.0),
)
def test_the_target_is_reached_and_no_higher_threshold_would(pairs, target):
    scores = np.array([0.5, 0.25] + [p[0] for p in pairs])
    labels = np.array([1, 0] + [int(p[1]) for p in pairs])
    value = choose_threshold(scores, labels, target=target).value
    positives = scores[labels == 1]
    assert (positives >= value).mean() >= target - 1e-9
    # The highest threshold that reaches the target: one fracture fewer would miss it.
    next_higher = positives[positives >= value].min()
    assert (positives > next_higher).mean() < target


@pytest.mark.parametrize(
    ("labels", "given_arguments", "text"),
    [
        ([1, 1], {}, "both classes"),
        ([0, 1], {"method": "f1"}, "f1"),
        ([0, 1], {"target": 0.0}, "target"),
    ],
)
def test_bad_input_is_named(labels, given_arguments, text):
    with pytest.raises(DataError, match=text):
        choose_threshold(np.array([0.2, 0.8]), np.array(labels), **given_arguments)
