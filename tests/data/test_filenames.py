"""Names say series, slice and variant; names that follow no rule say nothing."""

from __future__ import annotations

import pytest

from cspine.data.layouts.filenames import (
    ParsedName,
    find_slice_number,
    identify_file,
    parse_published,
    variant_rank,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "train/fracture/CSFDV1B10 (18)-sharpened1-rotated3.png",
            ParsedName("B10", "B10 (18)", 18, "sharpened1-rotated3"),
        ),
        ("CSFDV1B13 (15).png", ParsedName("B13", "B13 (15)", 15, "")),
        ("CSFDV1B13 (15)_1-rotated1.png", ParsedName("B13", "B13 (15_1)", 15, "rotated1")),
        ("patient012_slice034.png", None),
        ("image (1).png", None),
        ("B10 (18)-rotated1.png", None),
        ("fracture/0001.png", None),
        ("IMG_2034.jpg", None),
        ("scan-rotated.png", None),
    ],
)
def test_parse_published(name: str, expected: ParsedName | None):
    assert parse_published(name) == expected


def test_the_prefix_may_be_missing_in_the_published_folders_only():
    name = "normal/B10 (18)-rotated1.png"
    assert identify_file(name, is_published=True) == ParsedName("B10", "B10 (18)", 18, "rotated1")
    own = "normal/B10 (18)-rotated1"
    assert identify_file(name) == ParsedName(own, own, 0, "")


def test_a_named_patient_groups_files_that_stay_slices_of_their_own():
    for folder in ("fracture", "normal"):
        found = identify_file(f"{folder}/patient012_slice034.png")
        assert found == ParsedName("patient012", f"{folder}/patient012_slice034", 34, "")


@pytest.mark.parametrize(
    ("name", "number"),
    [("image (7).png", 7), ("Series1_Image001.png", 1), ("0001.png", None)],
)
def test_find_slice_number(name: str, number: int | None):
    assert find_slice_number(name) == number


def test_original_ranks_before_variants():
    variants = ["rotated1-rotated2", "sharpened", "", "rotated1"]
    ranked = sorted(variants, key=lambda variant: variant_rank(variant, "x"))
    assert ranked == ["", "rotated1", "sharpened", "rotated1-rotated2"]
