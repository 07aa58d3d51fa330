"""RSNA 2022's layout: labels by boxes, height matched between the classes, and its oddities."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest

from cspine.core.errors import DataError
from cspine.core.labels import FRACTURE, NORMAL
from cspine.data.audit.audit import audit_dataset
from cspine.data.crop_cache import load_samples
from cspine.data.index import index_dataset
from cspine.data.layouts import rsna
from cspine.data.sources import resolve_data
from cspine.data.split import split_dataset
from cspine.imaging.vertebra.finder import Box
from cspine.phantom.writers.dicom_layouts import write_rsna
from support.rsna_sets import CONFIG, write_unboxed


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_rsna(tmp_path_factory.mktemp("rsna") / "set", CONFIG)


@pytest.fixture(scope="module")
def dataset(folder):
    return index_dataset(folder)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_layout_studies_and_labels(folder, dataset):
    rows = read_csv(folder / "train.csv")
    assert dataset.layout == "rsna"
    assert dataset.studies == {r["StudyInstanceUID"]: int(r["patient_overall"]) for r in rows}
    boxed = {
        (r["StudyInstanceUID"], r["slice_number"])
        for r in read_csv(folder / "train_bounding_boxes.csv")
    }
    assert {record.label for record in dataset.records} == {NORMAL, FRACTURE}
    for record in dataset.records:
        key = (record.patient_id, Path(record.path).stem)
        assert record.label == FRACTURE or (key not in boxed and not record.boxes)
        assert record.label == NORMAL or record.boxes


def test_uid_inside_the_file_decides(dataset):
    renamed = [r for r in dataset.records if Path(r.path).parent.name != r.patient_id]
    assert renamed and len({record.patient_id for record in renamed}) == 1


def test_height_is_matched_and_gives_nothing_away(dataset):
    counts = Counter((min(int(r.position * 10), 9), r.label) for r in dataset.records)
    for decile in range(10):
        assert counts[decile, NORMAL] == counts[decile, FRACTURE]
    score = audit_dataset(dataset).shortcuts["slice number"]
    assert score is not None and not score.is_confound


def test_split_is_by_study_and_pixels_load(dataset, tmp_path):
    split = split_dataset(dataset, "grouped", 0)
    assert all(
        not {r.patient_id for r in fold.train} & {r.patient_id for r in fold.held_out}
        for fold in split.folds
    )
    samples = load_samples(dataset, dataset.records[:6], "slice", 128, tmp_path)
    fractures = samples.labels == FRACTURE
    assert len(samples) == 6 and samples.masks[fractures].any(axis=(1, 2)).all()


@pytest.fixture(scope="module")
def unboxed(tmp_path_factory) -> Path:
    return write_unboxed(tmp_path_factory.mktemp("unboxed") / "set")


def test_a_fractured_study_without_boxes_is_counted(unboxed, dataset):
    found, line = resolve_data(str(unboxed))
    sentence = "1 fractured study without boxes: only its study label is known."
    [uid] = found.unboxed_studies
    assert found.studies[uid] == FRACTURE and dataset.unboxed_studies == ()
    assert uid not in {record.patient_id for record in found.records}
    report = audit_dataset(found)
    assert line.endswith(sentence) and report.lines()[0].endswith(sentence)
    assert report.to_dict()["unboxed_studies"] == 1
    assert rsna.describe_unboxed(2).startswith("2 fractured studies") and len(report.lines()) == 3


def test_slices_of_a_study_without_boxes_have_no_label_and_stand_apart(unboxed, dataset):
    found = index_dataset(unboxed)
    assert found.unboxed_records and not dataset.unboxed_records
    assert {r.patient_id for r in found.unboxed_records} == set(found.unboxed_studies)
    assert all(r.label is None and not r.boxes and r.sha256 for r in found.unboxed_records)
    # Where no normal slice was drawn none of these is.
    heights = {int(r.position * 10) for r in found.records}
    assert {int(r.position * 10) for r in found.unboxed_records} <= heights
    # They take nothing from the others and are counted nowhere among them.
    assert not {r.path for r in found.records} & {r.path for r in found.unboxed_records}
    assert audit_dataset(found).files == len(found.records)


def test_missing_slices_are_no_fault(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for path in sorted(copy.rglob("3.dcm")):
        path.unlink()
    assert all(not r.path.endswith("/3.dcm") for r in index_dataset(copy).records)


def test_ranges_close_small_gaps_and_far_slices_are_normal():
    # 42 and 43 are a gap of two, which is closed; 45 to 59 is none.
    ranges = rsna.find_ranges([40, 41, 44, 60])
    assert ranges == [(40, 44), (60, 60)]
    # Ten slices from a box is far enough, nine is not.
    labels = {n: rsna.label_slice(n, ranges) for n in (30, 31, 42, 50, 60, 70)}
    assert labels == {30: NORMAL, 31: None, 42: FRACTURE, 50: None, 60: FRACTURE, 70: NORMAL}


def test_a_gap_takes_the_nearest_boxes():
    boxes = {40: [Box(0, 0, 1, 1)], 44: [Box(5, 5, 9, 9)]}
    assert rsna.nearest_boxes(boxes, 43) == (Box(5, 5, 9, 9),)
    assert rsna.nearest_boxes(boxes, 42) == (Box(0, 0, 1, 1),)


def test_faulty_tables_are_named(folder, tmp_path):
    (tmp_path / "train_images/1").mkdir(parents=True)
    (tmp_path / "train_images/1/1.dcm").write_bytes(b"no")
    (tmp_path / "train.csv").write_text("StudyInstanceUID,patient_overall\n1,2\n")
    with pytest.raises(DataError, match=r"must be 0 or 1\. Received: 2"):
        index_dataset(tmp_path)
    (tmp_path / "train.csv").write_text("StudyInstanceUID,patient_overall\n1,1\n")
    with pytest.raises(DataError, match=r"train_bounding_boxes\.csv. must be beside"):
        index_dataset(tmp_path)
    (tmp_path / "train_bounding_boxes.csv").write_text("StudyInstanceUID,x,y\n1,1,1\n")
    with pytest.raises(DataError, match="must have the columns"):
        index_dataset(tmp_path)
    for row in ("1,1,1,1,inf,1", "1,1,1,1"):
        (tmp_path / "train_bounding_boxes.csv").write_text(
            f"StudyInstanceUID,x,y,width,height,slice_number\n{row}\n"
        )
        with pytest.raises(DataError, match="must hold numbers"):
            index_dataset(tmp_path)
