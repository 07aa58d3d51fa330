"""Small trees of drawn pictures, and records without files, for the data room's tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cspine.data.records import Dataset, SliceRecord
from cspine.data.storage import FolderStorage


def picture(seed: int, size: int = 64) -> Image.Image:
    """A smooth random grey picture: not a CT, but with structure at every scale."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


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
        return Dataset(tmp_path, layout, tuple(records), "0" * 64, FolderStorage(tmp_path))

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


def make_slice(volume: int, number: int, size: int = 320) -> Image.Image:
    """A picture like a slice: a volume's blobs, moved a little from slice to slice, and noise."""
    rng = np.random.default_rng(volume)
    y, x = np.mgrid[:size, :size] / size - 0.5
    grey = np.where(np.hypot(x, y) < 0.45, 90.0, 0.0)
    for _ in range(14):
        cx, cy, rx, ry = rng.uniform((-0.28, -0.28, 0.02, 0.02), (0.28, 0.28, 0.11, 0.11))
        moved = cx + 0.004 * number * rng.uniform(-1, 1)
        inside = np.hypot((x - moved) / rx, (y - cy) / ry) < 1
        grey = np.where(inside, rng.uniform(40, 220), grey)
    noise = np.random.default_rng((volume, number)).normal(0, 9, (size, size))
    body = np.hypot(x, y) < 0.45
    return Image.fromarray(np.clip(np.where(body, grey + noise, 0), 0, 255).astype(np.uint8))
