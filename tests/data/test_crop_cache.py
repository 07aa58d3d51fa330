"""Crops, masks at stride 8, twins, and a cache that is keyed by content."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cspine import imaging
from cspine.core.errors import DataError
from cspine.data.crop_cache import hash_sources, imaging_source, load_samples
from cspine.data.index import index_dataset
from cspine.data.masks import pool_mask
from cspine.imaging.vertebra.finder import Box

IMAGING = Path(*imaging.__path__)
TABLE = """path,label,patient_id,slice_id,width_mm,mask_path,twin_path
a.png,fracture,p1,s1,1.5,mask.png,twin.png
b.png,normal,p2,s2,,,
"""


@pytest.fixture
def dataset(make_tree):
    root = make_tree(["a.png", "b.png", "twin.png"])
    mask = np.zeros((64, 64), np.uint8)
    mask[9, 17] = 255
    Image.fromarray(mask).save(root / "mask.png")
    (root / "slices.csv").write_text(TABLE)
    return index_dataset(root)


def test_images_masks_and_labels(dataset, tmp_path):
    samples = load_samples(dataset, dataset.records, "slice", 64, tmp_path / "cache")
    expected = np.asarray(Image.open(dataset.root / "a.png"))
    assert np.array_equal(samples.images[0], expected)
    assert samples.labels.tolist() == [1, 0] and samples.groups.tolist() == ["p1", "p2"]
    assert np.argwhere(samples.masks[0]).tolist() == [[1, 2]] and not samples.masks[1].any()
    assert samples.widths_mm[0] == 1.5 and np.isnan(samples.widths_mm[1])
    assert samples.left_out == 0 and not samples.is_twin.any()


def test_twins_are_extra_normal_samples(dataset, tmp_path):
    samples = load_samples(dataset, dataset.records, "slice", 64, tmp_path, with_twins=True)
    assert samples.labels.tolist() == [1, 0, 0] and samples.is_twin.tolist() == [False, False, True]
    assert samples.groups[2] == "p1" and not samples.masks[2].any()
    assert np.isnan(samples.widths_mm[2])


def test_cache_is_keyed_by_content(dataset, tmp_path):
    def load(size: int = 64):
        return load_samples(dataset, dataset.records, "slice", size, tmp_path / "cache").key

    first = load()
    entry = next((tmp_path / "cache").iterdir())
    before = entry.stat().st_mtime_ns
    assert load() == first and entry.stat().st_mtime_ns == before
    assert load(32) != first
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(dataset.root / "mask.png")
    assert load() != first
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_no_vertebra_is_left_out_and_counted(dataset, tmp_path):
    Image.new("L", (512, 512)).save(dataset.root / "b.png")
    Image.new("L", (512, 512)).save(dataset.root / "a.png")
    samples = load_samples(dataset, dataset.records[1:], "vertebra", 64, tmp_path / "cache")
    assert len(samples) == 0 and samples.left_out == 1
    assert samples.images.shape == (0, 64, 64)


def test_boxes_make_masks(dataset, tmp_path):
    fracture = replace(dataset.records[0], mask_path=None, boxes=(Box(8, 0, 17, 8),))
    samples = load_samples(dataset, [fracture], "slice", 64, tmp_path / "cache")
    assert np.argwhere(samples.masks[0]).tolist() == [[0, 1], [0, 2]]


def test_masks_are_none_unless_every_fracture_has_one(dataset, tmp_path):
    fracture = replace(dataset.records[0], mask_path=None)
    records = [dataset.records[0], fracture]
    assert load_samples(dataset, records, "slice", 64, tmp_path).masks is None


def test_every_fault_is_named_and_nothing_is_left_behind(dataset, tmp_path):
    (dataset.root / "a.png").write_bytes(b"no")
    (dataset.root / "b.png").write_bytes(b"no")
    cache: Path = tmp_path / "cache"
    with pytest.raises(DataError, match=r"Received: a\.png .*b\.png"):
        load_samples(dataset, dataset.records, "slice", 64, cache)
    assert not list(cache.iterdir())
    with pytest.raises(DataError, match=r"must have labels. Received: a\.png"):
        load_samples(dataset, [replace(dataset.records[0], label=None)], "slice", 64, cache)


def test_last_cell_takes_in_what_is_left_over():
    mask = np.zeros((19, 19), bool)
    mask[18, 0] = True
    assert pool_mask(mask).tolist() == [[0, 0], [1, 0]]


def refuse_dark(grey: np.ndarray, is_colour: bool) -> str | None:
    return None if grey.mean() > 60 and not is_colour else "dark"


def test_the_check_sees_whole_pictures_once_and_is_kept(dataset, tmp_path):
    Image.new("L", (64, 64), 200).save(dataset.root / "a.png")
    Image.new("L", (64, 64), 10).save(dataset.root / "b.png")
    Image.new("RGB", (64, 64), (250, 90, 90)).save(dataset.root / "twin.png")
    looked = []

    def check(grey, is_colour):
        looked.append(grey.shape)
        return refuse_dark(grey, is_colour)

    for _ in range(2):
        samples = load_samples(dataset, dataset.records, "slice", 32, tmp_path, True, check)
        assert samples.image_ok.tolist() == [True, False, False]
    assert looked == [(64, 64)] * 3
    unchecked = load_samples(dataset, dataset.records, "slice", 32, tmp_path, with_twins=True)
    assert unchecked.image_ok.all() and unchecked.key != samples.key


def sources_of(package):
    return sorted(p for p in package.rglob("*") if p.suffix in (".py", ".npz"))


@pytest.mark.parametrize("name", [str(p.relative_to(IMAGING)) for p in sources_of(IMAGING)])
def test_the_key_covers_every_file_of_the_imaging_room(name, tmp_path):
    shutil.copytree(IMAGING, tmp_path / "imaging")
    assert hash_sources(tmp_path / "imaging") == imaging_source()
    with (tmp_path / "imaging" / name).open("ab") as file:
        file.write(b" ")
    assert hash_sources(tmp_path / "imaging") != imaging_source()


def test_the_key_covers_the_picture_check(dataset, tmp_path):
    module = tmp_path / "a_check.py"
    keys = []
    for reason in ("None", "'dark'"):
        module.write_text(f"def check(grey, is_colour):\n    return {reason}\n")
        spec = importlib.util.spec_from_file_location("a_check", module)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        samples = load_samples(
            dataset, dataset.records, "slice", 64, tmp_path / "cache", check=loaded.check
        )
        keys.append(samples.key)
    assert len(set(keys)) == 2
