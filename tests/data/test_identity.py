"""Who a patient and what a slice is: paths, UIDs and tables say it, never a bare file name."""

from __future__ import annotations

import unicodedata

import pytest

from cspine.core.errors import DataError
from cspine.data.audit.audit import audit_dataset
from cspine.data.index import index_dataset, scan_dataset
from cspine.data.split import split_dataset
from support.data_pictures import make_slice


def write_table(folder, rows, columns="path,label,patient_id"):
    text = "\n".join([columns, *(",".join(row) for row in rows)])
    (folder / "set.csv").write_text(text, encoding="utf-8")
    return folder / "set.csv"


def draw(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    make_slice(number, 0, 64).save(path)


def test_names_of_a_bulk_rename_are_different_slices(tmp_path):
    for row in range(8):
        draw(tmp_path / ("fracture", "normal")[row % 2] / f"image ({row // 2 + 1}).png", row)
    dataset = index_dataset(tmp_path)
    assert dataset.layout == "flat"
    assert len({record.slice_id for record in dataset.records}) == 8
    assert len({record.patient_id for record in dataset.records}) == 8


@pytest.fixture
def repeated(tmp_path):
    """A table of 10 patients whose files have the same names."""
    rows = []
    for row in range(20):
        path = f"p{row // 2}/Series1_Image{row % 2:03d}.png"
        draw(tmp_path / path, row)
        rows.append((path, "fracture" if row // 2 % 2 else "normal", f"P{row // 2}"))
    return write_table(tmp_path, rows)


def test_names_that_repeat_from_patient_to_patient_join_nothing(repeated):
    dataset = index_dataset(repeated)
    assert len({record.slice_id for record in dataset.records}) == 20
    assert {record.patient_id for record in dataset.records} == {f"P{n}" for n in range(10)}
    report = audit_dataset(dataset)
    assert (report.slices, report.volumes, report.shared_slices) == (20, 10, [])
    assert split_dataset(dataset.with_groups(report.groups)).note.startswith(
        "No independent test: 5 folds of 10 patients"
    )


def test_numbers_that_begin_anew_with_each_patient_join_nothing(tmp_path):
    rows = []
    for row in range(6):
        draw(tmp_path / f"{row}.png", row)
        patient = f"P{row // 2}"
        rows.append((f"{row}.png", "fracture" if row % 2 else "normal", patient, "1", str(row % 2)))
    table = write_table(tmp_path, rows, "path,label,patient_id,volume_id,slice_id")
    records = index_dataset(table).records
    assert {record.volume_id for record in records} == {"P0/1", "P1/1", "P2/1"}
    assert len({record.slice_id for record in records}) == 6


def test_patients_who_share_a_slice_stay_two_on_one_side(repeated):
    folder = repeated.parent
    shared = folder / "p3/Series1_Image000.png"
    shared.write_bytes((folder / "p1/Series1_Image000.png").read_bytes())
    report = audit_dataset(scan_dataset(repeated))
    pair = ("p1/Series1_Image000.png", "p3/Series1_Image000.png")
    assert report.shared_slices == [pair]
    assert (report.slices, report.volumes) == (19, 10)
    assert "1 slice shared by several patients" in report.lines()[1]
    assert f"Shared by several patients: {', '.join(pair)}" in report.details()
    dataset = index_dataset(repeated).with_groups(report.groups)
    assert len({record.patient_id for record in dataset.records}) == 10
    for fold in split_dataset(dataset).folds:
        held = {record.patient_id for record in fold.held_out}
        assert len(held & {"P1", "P3"}) != 1
    joined = index_dataset(repeated).with_groups(report.groups, join_patients=True)
    assert len({record.patient_id for record in joined.records}) == 9


def test_a_copy_of_no_known_patient_belongs_to_the_patient_of_its_slice(repeated):
    copy = repeated.parent / "copy.png"
    copy.write_bytes((repeated.parent / "p1/Series1_Image000.png").read_bytes())
    with repeated.open("a") as file:
        file.write("\ncopy.png,fracture,")
    report = audit_dataset(scan_dataset(repeated))
    assert (report.slices, report.volumes, report.shared_slices) == (20, 10, [])
    dataset = index_dataset(repeated).with_groups(report.groups)
    assert {r.path: r.patient_id for r in dataset.records}["copy.png"] == "P1"


def test_paths_of_a_table_may_be_absolute_or_lead_through_parents(tmp_path):
    draw(tmp_path / "set/a.png", 0)
    draw(tmp_path / "set/b.png", 1)
    rows = [(str(tmp_path / "set/a.png"), "fracture"), ("lists/../b.png", "normal")]
    table = write_table(tmp_path / "set", rows, "path,label")
    assert [record.path for record in index_dataset(table).records] == ["a.png", "b.png"]


@pytest.mark.parametrize("cell", ["../a.png", "x/../../a.png", "/elsewhere/a.png", "C:\\a.png"])
def test_paths_that_leave_the_folder_are_refused_with_the_rule(tmp_path, cell):
    draw(tmp_path / "a.png", 0)
    (tmp_path / "set").mkdir()
    table = write_table(tmp_path / "set", [(cell, "normal")], "path,label")
    with pytest.raises(DataError, match="must lead to a file in the CSV's folder or below"):
        index_dataset(table)


@pytest.mark.parametrize(("in_table", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_meet_in_any_unicode_normal_form(tmp_path, in_table, on_disk):
    rows = []
    for number, label in enumerate(("fracture", "normal")):
        name = f"Schädel {number}.png"
        draw(tmp_path / unicodedata.normalize(on_disk, name), number)
        rows.append((unicodedata.normalize(in_table, name), label))
    records = index_dataset(write_table(tmp_path, rows, "path,label")).records
    assert len(records) == 2
