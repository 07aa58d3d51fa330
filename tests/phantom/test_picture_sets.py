"""The written sets: tables that agree with the files, published names, whole folders or none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cspine.core.errors import ConfigError, DataError
from cspine.data.index import index_dataset
from cspine.data.layouts.filenames import parse_published
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.grouped import write_grouped
from cspine.phantom.writers.kaggle_layout import write_kaggle
from cspine.phantom.writers.truth_table import COLUMNS

SMALL = PhantomConfig(patients=2, slices_per_patient=3)


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    return write_grouped(tmp_path_factory.mktemp("phantom") / "set", SMALL)


def read_rows(folder):
    with (folder / "slices.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_agrees_with_the_files(grouped):
    rows = read_rows(grouped)
    assert tuple(rows[0]) == COLUMNS and len(rows) == 6
    for row in rows:
        is_broken = row["label"] == "fracture"
        assert np.asarray(Image.open(grouped / row["path"])).shape == (512, 512)
        assert bool(row["mask_path"]) == bool(row["twin_path"]) == is_broken
        if is_broken:
            mask = np.asarray(Image.open(grouped / row["mask_path"]))
            assert set(np.unique(mask)) == {0, 255} and float(row["width_mm"]) >= 0.2


def test_phantom_json_tells_the_configuration(grouped):
    about = json.loads((grouped / "phantom.json").read_text())
    assert about["version"] == "phantom-v1" and about["config"]["patients"] == 2


def test_a_full_folder_is_refused_and_kept(grouped):
    with pytest.raises(DataError, match="must be absent or an empty folder"):
        write_grouped(grouped, SMALL)
    assert len(read_rows(grouped)) == 6


def test_the_published_layout_has_published_names(tmp_path):
    config = PhantomConfig(patients=1, slices_per_patient=4, confound="height", variants=True)
    files = sorted(write_kaggle(tmp_path / "set", config).rglob("*.png"))
    assert len(files) == 4 * 21
    assert {file.parts[-4] for file in files} == {"cervical fracture"}
    numbers = {"fracture": set(), "normal": set()}
    for file in files:
        numbers[file.parts[-2]].add(parse_published(str(file)).slice_number)
    assert max(numbers["fracture"]) < min(numbers["normal"])
    with Image.open(files[0]) as first:
        assert (first.size, first.mode) == ((224, 224), "RGB")


def test_impossible_configurations_are_refused():
    with pytest.raises(ConfigError, match="`confound` must be None or `height`"):
        PhantomConfig(confound="level")


def test_the_published_layout_has_its_truth_beside_it(tmp_path):
    out = write_kaggle(tmp_path / "set", PhantomConfig(patients=2, slices_per_patient=6, seed=4))
    with (out / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {
        path.relative_to(out).as_posix() for path in out.rglob("*.png")
    }
    for row in rows:
        assert row["label"] == Path(row["path"]).parent.name
        assert row["split"] == Path(row["path"]).parent.parent.name
        assert bool(row["width_mm"]) == (row["label"] == "fracture")
    assert index_dataset(out).layout == "kaggle"


@pytest.mark.parametrize("seed", [1, 3])
def test_a_set_too_small_for_two_splits_is_refused(tmp_path, seed):
    config = PhantomConfig(patients=1, slices_per_patient=2, seed=seed)
    with pytest.raises(DataError, match="Raise `--patients` or `--slices`"):
        write_kaggle(tmp_path / "set", config)
    assert list(tmp_path.iterdir()) == []


def test_a_set_is_written_into_the_folder_where_one_stands(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_grouped(Path(), PhantomConfig(patients=1, slices_per_patient=2))
    assert (tmp_path / "here" / "slices.csv").is_file()
