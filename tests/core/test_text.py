"""Numbers with their nouns; durations and bars that are read or refused."""

from __future__ import annotations

import pytest

from cspine.core.errors import ConfigError
from cspine.core.text import count_noun, parse_duration, parse_requirement


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("5", 5)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-3s", "0s", "1.5h"])
def test_no_durations(text):
    with pytest.raises(ConfigError, match="`time_limit` must be"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["recall=0.9", "Sensitivity = 0.9"])
def test_recall_and_sensitivity_are_one_figure(text):
    assert parse_requirement(text) == ("recall", 0.9)


def test_one_takes_no_s():
    assert [count_noun(n, "slice") for n in (0, 1, 2)] == ["0 slices", "1 slice", "2 slices"]
