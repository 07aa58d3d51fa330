"""Small trees of drawn pictures, and data sets without files, for the data room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspine.data.records import Dataset, SliceRecord
from cspine.data.storage import FolderStorage
from support.data_pictures import picture, png


@pytest.fixture
def make_tree(tmp_path: Path):
    def make(names: list[str], root: Path | None = None) -> Path:
        root = root or tmp_path / "set"
        for seed, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(picture(seed)))
        return root

    return make


@pytest.fixture
def make_dataset(tmp_path: Path):
    def make(records: list[SliceRecord], layout: str = "csv") -> Dataset:
        return Dataset(layout=layout, records=tuple(records), storage=FolderStorage(tmp_path))

    return make


def published_names(series: str, split: str, numbers: range, label: str) -> list[str]:
    stem = f"cervical fracture/{split}/{label}/CSFDV1{series}"
    tails = ("", "-rotated1", "-sharpened-rotated2")
    return [f"{stem} ({number}){tail}.png" for number in numbers for tail in tails]


@pytest.fixture
def published() -> list[str]:
    """Names of a small published-style set: three series, slice B10 (18) on both sides."""
    return [
        *published_names("B10", "val", range(17, 19), "fracture"),
        *published_names("B10", "val", range(100, 102), "normal"),
        *published_names("B11", "train", range(1, 3), "fracture"),
        *published_names("B11", "train", range(103, 105), "normal"),
        *published_names("B12", "train", range(2, 4), "fracture"),
        *published_names("B12", "train", range(110, 112), "normal"),
        "cervical fracture/train/fracture/CSFDV1B10 (18)-rotated3-rotated3.png",
    ]
