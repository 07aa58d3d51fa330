"""The audit finds every planted fault, counts slices, names the confound, and says so."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from cspine.data.audit.audit import audit_dataset, audit_names
from cspine.data.audit.page import render_page
from cspine.data.audit.shortcuts import score_shortcut
from cspine.data.index import scan_dataset
from cspine.data.split import split_dataset
from support.data_pictures import make_slice

KEYS = {
    "files",
    "slices",
    "volumes",
    "unreadable",
    "exact_duplicates",
    "near_duplicates",
    "split_leaks",
    "label_conflicts",
    "shortcut_auroc",
    "shortcuts",
    "groups",
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Six slices, with a copy in the test set, one in the other class, and a truncated file."""
    root = tmp_path_factory.mktemp("planted")
    for split in ("train", "test"):
        for label in ("fracture", "normal"):
            (root / split / label).mkdir(parents=True)
    for volume in range(3):
        make_slice(volume, 0).save(root / f"train/fracture/f{volume}.png")
        make_slice(volume + 10, 0).save(root / f"train/normal/n{volume}.png")
    # A rotated copy of a training slice, in the test set.
    make_slice(0, 0).rotate(14).save(root / "test/fracture/copy.png")
    make_slice(20, 0).save(root / "test/normal/own.png")
    shutil.copy(root / "train/normal/n0.png", root / "train/normal/again.png")
    # A fracture's copy among the normal slices.
    make_slice(1, 0).rotate(90).save(root / "train/normal/wrong.png")
    whole = (root / "train/fracture/f2.png").read_bytes()
    (root / "train/fracture/cut.png").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture(scope="module")
def report(planted):
    return audit_dataset(scan_dataset(planted))


def test_planted_faults_are_found_and_nothing_else(report):
    # Ten readable files; three of them are copies.
    assert (report.files, report.slices, report.volumes) == (10, 7, 7)
    assert list(report.unreadable) == ["train/fracture/cut.png"]
    assert report.exact_duplicates == [("train/normal/again.png", "train/normal/n0.png")]
    assert {frozenset(group) for group in report.near_duplicates} == {
        frozenset(["test/fracture/copy.png", "train/fracture/f0.png"]),
        frozenset(["train/fracture/f1.png", "train/normal/wrong.png"]),
    }
    assert report.split_leaks[0].sides == {
        "test": ("test/fracture/copy.png",),
        "train": ("train/fracture/f0.png",),
    }
    assert report.label_conflicts == [("train/fracture/f1.png", "train/normal/wrong.png")]


def test_kinds_count_every_file_and_name_the_odd_one(tmp_path):
    for number in range(1, 31):
        for tail in ("", "-rotated1"):
            make_slice(number, 0, 96).save(tmp_path / f"CSFDV1B10 ({number}){tail}.png")
    odd = tmp_path / "CSFDV1B10 (7)-sharpened.png"
    make_slice(7, 0, 64).save(odd)
    table = "\n".join(f"{path.name},normal" for path in tmp_path.glob("*.png"))
    (tmp_path / "set.csv").write_text("path,label\n" + table)
    report = audit_dataset(scan_dataset(tmp_path / "set.csv"))
    assert report.kinds == {"png 96×96 grey": 60, "png 64×64 grey": 1}
    assert report.odd_files == [odd.name]


def test_groups_of_the_audit_keep_a_split_clean(planted, report):
    dataset = scan_dataset(planted).with_groups(report.groups)
    split = split_dataset(dataset, "grouped", 0)
    for fold in split.folds:
        held = {report.groups[record.path][0] for record in fold.held_out}
        assert not held & {report.groups[record.path][0] for record in fold.train}


def test_json_has_the_documented_keys(report):
    found = json.loads(report.to_json())
    assert set(found) >= KEYS
    assert found["groups"]["test/fracture/copy.png"]["slice"] == "test/fracture/copy"
    assert found["label_conflicts"] == [["train/fracture/f1.png", "train/normal/wrong.png"]]


def test_three_lines_say_it(report):
    lines = report.lines()
    assert len(lines) == 3
    assert lines[0].startswith("Audit: 10 files are 7 distinct slices (5 normal, 3 fracture)")
    assert "1 slice in both classes, 1 unreadable file" in lines[1]
    assert any("Unreadable: train/fracture/cut.png" in line for line in report.details())


def test_page_is_self_contained_and_escaped(planted, report):
    page = render_page(report, scan_dataset(planted).read_bytes)
    assert page.count("data:image/png;base64,") >= 6
    assert "http" not in page and "<script" not in page and "Not a medical device" in page
    odd = audit_names(["train/fracture/<b>.png", "val/fracture/<b>.png"])
    assert "<b>.png" not in render_page(odd)


def test_names_of_windows_are_names():
    report = audit_names(["val\\fracture\\CSFDV1B10 (18).png", "train/fracture/CSFDV1B10 (18).png"])
    assert (report.slices, [leak.slice_id for leak in report.split_leaks]) == (1, ["B10 (18)"])
    # Of published names the folder `val` is the test set, as in the folders themselves.
    assert sorted(report.to_dict()["split_leaks"][0]["sides"]) == ["test", "train"]


def test_names_alone(published):
    report = audit_names([name.removeprefix("cervical fracture/") for name in published])
    assert (report.files, report.slices, report.volumes) == (37, 12, 3)
    assert [leak.slice_id for leak in report.split_leaks] == ["B10 (18)"]
    assert report.shortcuts["slice number"].is_confound
    assert report.shortcut_auroc == 1.0
    assert "slice number alone separates fracture from normal" in report.lines()[2]


def test_names_decide_before_pixels(tmp_path):
    names = [
        f"{label}/CSFDV1{series} ({number}).png"
        for series in ("B1", "B2")
        for label, number in (("fracture", 1), ("fracture", 2), ("normal", 5), ("normal", 6))
    ]
    for index, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        # All of B1 is one picture.
        image = make_slice(0 if "B1" in name else index, 0)
        # One pixel, so that bytes differ and only pixels can tell.
        image.putpixel((0, 0), index)
        image.save(path)
    dataset = scan_dataset(tmp_path)
    named, blind = (audit_dataset(dataset, ignore_names=blind) for blind in (False, True))
    assert (named.slices, named.volumes) == (8, 2)
    assert blind.slices == 5 and len(blind.near_duplicates[0]) == 4


@pytest.mark.parametrize("seed", range(3))
def test_a_shortcut_that_is_there_is_a_confound_and_noise_is_none(seed):
    rng = np.random.default_rng(seed)
    labels, groups = np.tile([0, 1], 100), np.repeat(np.arange(20), 10).astype(str)
    plain = score_shortcut(rng.normal(size=(200, 3)), labels, groups)
    planted = score_shortcut(rng.normal(size=(200, 3)) + 3 * labels[:, None], labels, groups)
    assert planted.is_confound and planted.auroc > 0.95
    assert not plain.is_confound and plain.low <= plain.auroc <= plain.high


def test_one_group_or_class_has_no_shortcut_score():
    features, labels = np.ones((6, 1)), np.tile([0, 1], 3)
    assert score_shortcut(features, labels, np.array(["a"] * 6)) is None
    assert score_shortcut(features, np.zeros(6, int), np.array(list("abcdef"))) is None
