"""The written sets: tables that agree with the files, published names, whole folders or none."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cspine.core.errors import ConfigError, DataError
from cspine.data.groups import parse_name
from cspine.phantom.dataset import COLUMNS, PhantomConfig, write_grouped, write_kaggle

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
        numbers[file.parts[-2]].add(parse_name(str(file)).slice_number)
    assert max(numbers["fracture"]) < min(numbers["normal"])
    with Image.open(files[0]) as first:
        assert (first.size, first.mode) == ((224, 224), "RGB")


def test_impossible_configurations_are_refused():
    with pytest.raises(ConfigError, match="`confound` must be None or `height`"):
        PhantomConfig(confound="level")
