"""Whether a set's images are synthetic or real is told by the mark in their files alone."""

import json

import pytest

from cspine.core.errors import DataError
from cspine.core.synthetic_mark import PNG_TEXT
from cspine.data import sources
from cspine.data.domain import find_data_domain
from cspine.data.index import index_dataset
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.dicom_layouts import write_rsna
from cspine.phantom.writers.grouped import write_grouped
from cspine.phantom.writers.kaggle_layout import write_kaggle
from support.data_pictures import picture, png

SMALL = PhantomConfig(patients=4, slices_per_patient=4, seed=7)


@pytest.mark.parametrize("write", [write_grouped, write_kaggle, write_rsna])
def test_a_phantom_set_is_synthetic_in_any_layout(write, tmp_path):
    assert find_data_domain(index_dataset(write(tmp_path / "set", SMALL))) == "synthetic"


def test_a_set_without_marks_is_real(make_tree, published):
    assert find_data_domain(index_dataset(make_tree(published))) == "real"


def test_a_set_that_is_marked_in_part_is_refused(tmp_path):
    root = write_grouped(tmp_path / "set", SMALL)
    replaced = sorted((root / "images").iterdir())[0]
    replaced.write_bytes(png(picture(1)))
    files = 16 + len(list((root / "twins").iterdir()))
    told = rf"in {files - 1} of {files} files, .* no mark in .*Make one data set for each kind"
    with pytest.raises(DataError, match=told):
        find_data_domain(index_dataset(root))


def test_a_phantom_set_without_marks_is_refused(make_tree):
    root = make_tree(["train/normal/a.png", "train/fracture/b.png"])
    (root / "phantom.json").write_text(json.dumps({"version": "phantom-v1"}))
    with pytest.raises(
        DataError, match=r"without the mark.*write the phantom set again with `python"
    ):
        find_data_domain(index_dataset(root))


def test_a_phantom_set_of_before_the_mark_is_not_taken_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PNG_TEXT", "")
    old = sources.write_phantom_once(tmp_path, SMALL)
    monkeypatch.setattr(sources, "PNG_TEXT", PNG_TEXT)
    assert sources.write_phantom_once(tmp_path, SMALL) != old


@pytest.mark.parametrize("replaced", ["images", "twins"])
def test_twins_are_looked_at_too(replaced, tmp_path):
    root = write_grouped(tmp_path / "set", SMALL)
    (root / "phantom.json").unlink()
    for path in (root / replaced).iterdir():
        path.write_bytes(png(picture(int(path.stem[-3:]) + 1000 * int(path.stem[7:11]))))
    with pytest.raises(DataError, match="all synthetic or all real"):
        find_data_domain(index_dataset(root, skip_unreadable=True))
