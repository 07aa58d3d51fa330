"""Numbers with their nouns."""

from __future__ import annotations

from cspine.core.text import count_noun


def test_one_takes_no_s():
    assert [count_noun(n, "slice") for n in (0, 1, 2)] == ["0 slices", "1 slice", "2 slices"]
