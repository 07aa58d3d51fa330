"""A series of slices has one verdict, or the reason why it has none."""

import pytest

from cspine.decide.study_score import NormalLogits, SeriesScore
from cspine.predict.reasons import SYNTHETIC_MODEL
from cspine.predict.studies import describe_study, score_studies

# Where normal slices' logits are all 0, this rule gives the highest slice.
RULE = SeriesScore(1, 1.0, 0.0, 0.5, NormalLogits((0.0, 0.0), 50))


def make_rows(*answers, series="s"):
    """A row for each (probability, reason); "" is a slice in distribution."""
    return [
        {
            "path": f"{number}.dcm",
            "series": series,
            "slice": f"uid {number}",
            "probability": probability,
            "reason": reason,
            "region": "0 0 9 9" if probability else "",
            "warnings": "",
            "in_distribution": "false" if reason else "true",
        }
        for number, (probability, reason) in enumerate(answers)
    ]


KNOWN, HIGH = ("0.2", ""), ("0.9", "")
STRANGE, EMPTY = ("0.9", "unlike_training"), ("", "no_vertebra")


def test_a_series_is_scored_by_the_models_rule():
    [score] = score_studies(RULE, make_rows(KNOWN, HIGH, KNOWN, KNOWN, KNOWN, EMPTY))
    assert (score.slices, score.used, score.prediction) == (6, 5, "fracture")
    assert score.probability == pytest.approx(0.9)
    assert score.left_out == {"no_vertebra": ["5.dcm"]}
    assert describe_study(score) == (
        "series s: fracture 0.900, from 5 of 6 slices. "
        "Left out, no cervical vertebra found: 1 (5.dcm)."
    )


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        # Eight slices of a chest of which three look like a neck.
        ([HIGH] * 3 + [STRANGE] * 5, "3 slices in distribution, but at least 5 are needed."),
        ([HIGH] * 4 + [EMPTY] * 9, "4 slices in distribution, but at least 5 are needed."),
        ([HIGH] * 5 + [STRANGE] * 6 + [EMPTY] * 9, "5 slices in distribution of the 11 that"),
        ([HIGH] * 51, "51 slices in distribution, more than the 50 normal ones"),
    ],
)
def test_a_series_without_enough_slices_in_distribution_has_no_class(answers, reason):
    [score] = score_studies(RULE, make_rows(*answers))
    assert (score.prediction, score.probability) == ("uncertain", None)
    assert score.reason.startswith(reason)
    assert describe_study(score).startswith(f"series s: no class: {reason}")


@pytest.mark.parametrize("aside", [EMPTY, ("0.9", "header"), ("", "picture")])
def test_slices_outside_the_neck_are_set_aside(aside):
    [score] = score_studies(RULE, make_rows(*[HIGH] * 5, *[aside] * 90))
    assert (score.prediction, score.used) == ("fracture", 5)


def test_a_picture_that_is_refused_with_a_vertebra_in_it_is_not_set_aside():
    [score] = score_studies(RULE, make_rows(*[HIGH] * 5, *[("0.9", "picture")] * 6))
    assert score.prediction == "uncertain"


def test_copies_of_one_slice_count_once():
    rows = make_rows(*[HIGH] * 5) * 3
    assert score_studies(RULE, rows)[0].slices == 5
    nameless = [row | {"slice": ""} for row in rows]
    assert score_studies(RULE, nameless)[0].slices == 5  # one path is one file
    assert score_studies(RULE, make_rows(HIGH) * 9) == []  # a lone slice is no series


def test_many_left_out_slices_are_counted_and_some_named():
    [score] = score_studies(RULE, make_rows(*[HIGH] * 5, *[EMPTY] * 8))
    assert "8 (5.dcm, 6.dcm, 7.dcm, 8.dcm, 9.dcm and 3 more)" in describe_study(score)


def test_slices_without_a_series_and_models_without_a_rule_give_none():
    assert score_studies(RULE, make_rows(*[HIGH] * 6, series="")) == []
    assert score_studies(None, make_rows(*[HIGH] * 6)) == []


def test_a_model_that_searched_no_vertebra_sets_no_picture_aside():
    unsearched = [
        row | {"warnings": SYNTHETIC_MODEL.sentence} for row in make_rows(*[("", "picture")] * 6)
    ]
    rows = [
        *make_rows(*[HIGH] * 5),
        *(row | {"slice": f"other {row['slice']}"} for row in unsearched),
    ]
    assert score_studies(RULE, rows)[0].prediction == "uncertain"


def test_a_reason_of_a_later_version_is_named_as_it_is():
    [score] = score_studies(RULE, make_rows(*[HIGH] * 5, ("0.9", "lungs")))
    assert describe_study(score).endswith("Left out, lungs: 1 (5.dcm).")
