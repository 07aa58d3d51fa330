"""What --data means: nothing, `phantom`, `kaggle` or a path, and one line that says why."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from cspine.core.errors import DataError
from cspine.data.sources import KAGGLE_SET, resolve_data
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.grouped import write_grouped

SMALL = PhantomConfig(patients=2, slices_per_patient=2, seed=7)


def test_phantom_is_written_once(tmp_path: Path):
    dataset, line = resolve_data("phantom", tmp_path, SMALL)
    assert dataset.layout == "phantom" and "as requested" in line and "4 files" in line
    assert {record.label for record in dataset.records} == {0, 1}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again, _ = resolve_data("phantom", tmp_path, SMALL)
    assert again.fingerprint == dataset.fingerprint
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_nothing_named_takes_the_data_folder_or_the_phantom(tmp_path, make_tree, published):
    folder = make_tree(published, tmp_path / "data")
    dataset, line = resolve_data(None, tmp_path / "build", SMALL, default_folder=folder)
    assert dataset.layout == "kaggle" and "it holds images" in line
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/README.md").write_text("put the images here")
    for name in ("empty", "notes", "nowhere"):
        folder = tmp_path / name
        dataset, line = resolve_data(None, tmp_path / "build", SMALL, default_folder=folder)
        assert dataset.layout == "phantom" and "no --data was given" in line


@pytest.mark.parametrize("names", [["plots/a.png"], ["exp/normal/b.png"]])
def test_synthetic_images_never_replace_images_that_cannot_be_used(tmp_path, make_tree, names):
    folder = make_tree(names, tmp_path / "data")
    with pytest.raises(DataError, match=r"Or use --data phantom"):
        resolve_data(None, tmp_path / "build", SMALL, default_folder=folder)


def test_a_data_folder_with_a_fault_is_told_and_not_passed_over(tmp_path, make_tree):
    names = ["train/fracture/a.png", "train/normal/b.png", "overview.png"]
    folder = make_tree(names, tmp_path / "data")
    with pytest.raises(DataError, match=r"with \. \(1 images\)"):
        resolve_data(None, tmp_path / "build", SMALL, default_folder=folder)


def test_a_table_without_class_folders_is_a_known_layout(tmp_path):
    write_grouped(tmp_path / "data", SMALL)
    dataset, line = resolve_data(None, tmp_path / "build", SMALL, default_folder=tmp_path / "data")
    assert "it holds images" in line and dataset.root == tmp_path / "data"


def test_kaggle_is_found_by_kagglehub(monkeypatch, make_tree, published):
    asked = []
    root = make_tree(published)
    hub = types.SimpleNamespace(dataset_download=lambda name: asked.append(name) or str(root))
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    dataset, line = resolve_data("kaggle")
    assert asked == [KAGGLE_SET] and dataset.root == root and "downloaded" in line


def test_any_failure_of_kagglehub_says_what_to_do(monkeypatch):
    def fail(name: str) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=fail))
    with pytest.raises(DataError, match=r"no route to host\. .* --data archive\.zip"):
        resolve_data("kaggle")
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DataError, match="needs the package kagglehub"):
        resolve_data("kaggle")
