"""Names say series, slice and variant; names that follow no rule say nothing."""

from __future__ import annotations

import pytest

from cspine.data.layouts.filenames import ParsedName, parse_name, variant_rank


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "train/fracture/CSFDV1B10 (18)-sharpened1-rotated3.png",
            ParsedName("B10", "B10 (18)", 18, "sharpened1-rotated3"),
        ),
        ("CSFDV1B13 (15).png", ParsedName("B13", "B13 (15)", 15, "")),
        ("CSFDV1B13 (15)_1-rotated1.png", ParsedName("B13", "B13 (15_1)", 15, "rotated1")),
        ("patient012_slice034.png", ParsedName("patient012", "patient012 (034)", 34, "")),
        ("fracture/0001.png", None),
        ("IMG_2034.jpg", None),
        ("scan-rotated.png", None),
    ],
)
def test_parse_name(name: str, expected: ParsedName | None):
    assert parse_name(name) == expected


def test_original_ranks_before_variants():
    variants = ["rotated1-rotated2", "sharpened", "", "rotated1"]
    ranked = sorted(variants, key=lambda variant: variant_rank(variant, "x"))
    assert ranked == ["", "rotated1", "sharpened", "rotated1-rotated2"]
