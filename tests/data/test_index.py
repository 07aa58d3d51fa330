"""Every layout is recognised, zipped or not, and everything wrong is named at once."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cspine.core.errors import DataError
from cspine.core.labels import FRACTURE, NORMAL
from cspine.data.index import index_dataset, scan_dataset
from support.data_pictures import picture

FLAT = ["Fracture/a.png", "NORMAL/b.png", "normal/c.png"]
TREE = [
    f"{split}/{label}/{split}.png"
    for split in ("train", "val", "test")
    for label in ("fracture", "normal")
]


def zip_tree(root: Path) -> Path:
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, file.relative_to(root))
        archive.writestr("__MACOSX/fracture/._a.png", b"shadow")
    return path


def test_published_layout_calls_val_the_test_set(make_tree, published):
    dataset = index_dataset(make_tree(published))
    assert dataset.layout == "kaggle"
    first = dataset.records[0]
    assert first.path == "cervical fracture/train/fracture/CSFDV1B10 (18)-rotated3-rotated3.png"
    assert (first.label, first.split, first.patient_id) == (FRACTURE, "train", "B10")
    assert (first.slice_id, first.variant) == ("B10 (18)", "rotated3-rotated3")
    assert {record.split for record in dataset.records} == {"train", "test"}


def test_zip_is_read_as_the_folder_is(make_tree, published):
    root = make_tree(published)
    folder, archive = index_dataset(root), index_dataset(zip_tree(root))
    assert archive.records == folder.records
    assert archive.fingerprint == folder.fingerprint
    path = folder.records[3].path
    assert archive.read_bytes(path) == (root / path).read_bytes()


def test_a_damaged_member_of_a_zip_is_named(make_tree):
    archive = zip_tree(make_tree(FLAT))
    packed = archive.with_name("packed.zip")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with zipfile.ZipFile(packed) as members:
        entry = members.getinfo("NORMAL/b.png")
    data = bytearray(packed.read_bytes())
    # Past the member's header of 30 bytes and its name: a block of a kind that deflate lacks.
    data[entry.header_offset + 30 + len(entry.filename)] |= 7
    packed.write_bytes(data)
    with pytest.raises(DataError, match=r"1 unreadable .*: NORMAL/b\.png"):
        index_dataset(packed)


def test_tree_and_flat(make_tree, tmp_path):
    tree = index_dataset(make_tree(TREE, tmp_path / "tree"))
    assert tree.layout == "tree"
    assert {r.split for r in tree.records} == {"train", "validation", "test"}
    flat = index_dataset(make_tree(FLAT, tmp_path / "flat"))
    assert flat.layout == "flat"
    assert (flat.records[0].label, flat.records[0].split) == (FRACTURE, None)
    assert len({record.patient_id for record in flat.records}) == 3


def test_csv_and_its_columns(make_tree, tmp_path):
    root = make_tree(["images/a.png", "images/b.png", "images/c.png", "masks/a.png"])
    (root / "list.csv").write_text(
        "path,label,patient_id,slice_index,width_mm,mask_path\n"
        "images/a.png,fracture,p1,4,1.5,masks/a.png\nimages/b.png,Normal,p1,9,,\n"
        "images/c.png,normal,p2,1,,\n"
    )
    dataset = index_dataset(root / "list.csv")
    a, b, c = dataset.records
    assert (a.label, a.width_mm, a.mask_path, a.position) == (FRACTURE, 1.5, "masks/a.png", 0.0)
    assert (b.label, b.patient_id, b.position, b.width_mm) == (NORMAL, "p1", 1.0, None)
    assert c.position is None
    shutil.move(root / "list.csv", root / "slices.csv")
    assert index_dataset(root).records == dataset.records


def test_a_csv_whose_quote_never_ends_is_named(make_tree):
    root = make_tree(["a.png"])
    (root / "slices.csv").write_text('path,label\n"' + "a" * 200_000)
    with pytest.raises(DataError, match=r"`slices\.csv` must be a CSV file"):
        index_dataset(root)


@pytest.mark.parametrize("cell", ["--3", "²", "1.5"])
def test_an_index_that_is_no_whole_number_is_not_known(make_tree, cell):
    root = make_tree(["a.png", "b.png", "c.png"])
    rows = f"a.png,fracture,v,{cell}\nb.png,normal,v,1\nc.png,normal,v,2\n"
    (root / "slices.csv").write_text(f"path,label,volume_id,slice_index\n{rows}")
    assert [record.position for record in index_dataset(root).records] == [None, 0.0, 1.0]


def test_csv_faults_are_named_at_once(make_tree):
    root = make_tree(["a.png"])
    (root / "slices.csv").write_text("path,label\na.png,broken\nb.png,normal\na.png,normal\n")
    with pytest.raises(DataError, match=r"line 2: .*'broken'; .*line 3: .*b\.png"):
        index_dataset(root)
    (root / "slices.csv").write_text("file,class\n")
    with pytest.raises(DataError, match=r"columns `path`, `label`\. Received: file, class"):
        index_dataset(root)


def test_wrong_places_are_named(tmp_path, make_tree):
    with pytest.raises(DataError, match="no such file or folder"):
        index_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"laid out as .*Received: .*broken \(1 images\)"):
        index_dataset(make_tree(["broken/a.png", "healthy/b.png"], tmp_path / "odd"))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("a note")
    with pytest.raises(DataError, match=r"no PNG, JPEG or DICOM file \(1 other files\)"):
        index_dataset(tmp_path / "text")
    names = ["train/fracture/a.png", "train/normal/b.png", "val/fracture/c.png"]
    with pytest.raises(DataError, match="no readable image in val/normal"):
        index_dataset(make_tree(names, tmp_path / "empty"))
    (tmp_path / "bad.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match="readable ZIP"):
        index_dataset(tmp_path / "bad.zip")


def test_all_unreadable_files_are_named_and_can_be_skipped(make_tree, caplog):
    root = make_tree([*FLAT, "fracture/d.png", "normal/e.png"])
    (root / "fracture/d.png").write_bytes((root / "fracture/d.png").read_bytes()[:300])
    (root / "normal/e.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"2 unreadable .*: fracture/d\.png .*normal/e\.png"):
        index_dataset(root)
    with caplog.at_level(logging.WARNING):
        dataset = index_dataset(root, skip_unreadable=True)
    assert len(dataset.records) == 3
    assert sorted(dataset.unreadable) == ["fracture/d.png", "normal/e.png"]
    assert "Left out fracture/d.png" in caplog.text


def test_a_name_that_is_no_text_is_named(make_tree):
    root = make_tree(["fracture/a.png", "normal/b.png"])
    (root / "fracture/a.png").rename(root / os.fsdecode(b"fracture/\xff.png"))
    assert scan_dataset(root).unreadable == {r"fracture/\udcff.png": "its name must be UTF-8 text"}
    with pytest.raises(DataError, match="1 unreadable"):
        index_dataset(root)


def test_faults_of_every_kind_are_named_at_once(make_tree):
    root = make_tree(["train/fracture/a.png", "train/normal/b.png", "val/fracture/c.png"])
    (root / "train/fracture/broken.png").write_bytes(b"not an image")
    shutil.copy(root / "train/normal/b.png", root / "train/fracture/b.png")
    with pytest.raises(DataError) as caught:
        index_dataset(root)
    for part in (
        "1 unreadable file (`--skip-unreadable`",
        "1 slice in both",
        "image in val/normal",
    ):
        assert part in str(caught.value)


def test_a_faulty_table_or_tree_is_told_together_with_its_files(make_tree, tmp_path):
    root = make_tree(["a.png", "b.png"], tmp_path / "table")
    (root / "b.png").write_bytes(b"not an image")
    (root / "slices.csv").write_text("path,label\na.png,fracture\na.png,normal\nb.png,normal\n")
    with pytest.raises(
        DataError, match=r"line 3: a\.png is already in line 2; 1 unreadable .*b\.png"
    ):
        index_dataset(root)
    tree = make_tree([*FLAT, "stray.png"], tmp_path / "tree")
    (tree / "normal/c.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"another layout .*1 unreadable .*normal/c\.png"):
        index_dataset(tree)


def test_nothing_in_a_class_is_passed_over(make_tree):
    root = make_tree(TREE)
    picture(1).save(root / "train/normal/scan.tif")
    (root / "train/normal/gone.png").symlink_to(root / "nowhere.png")
    for name in ("fracture", "normal"):
        (root / f"val/{name}/val.png").unlink()
    with pytest.raises(DataError) as caught:
        index_dataset(root)
    for part in ("scan.tif (`image` must", "gone.png (", "in val/normal and val/fracture"):
        assert part in str(caught.value)


def test_what_lies_beside_the_classes_makes_no_other_set(make_tree, published):
    root = make_tree(published)
    (root / "labels/fracture").mkdir(parents=True)
    (root / "labels/fracture/a.txt").write_text("a")
    for stray in ("figures/normal/overview.gif", "cervical fracture/train/note.tif"):
        (root / stray).parent.mkdir(parents=True, exist_ok=True)
        picture(1).convert("L").save(root / stray)
    assert index_dataset(root).layout == "kaggle"
    picture(1).save(root / "cervical fracture/val/normal/note.tif")
    left = index_dataset(root, skip_unreadable=True)
    assert left.layout == "kaggle"
    assert list(left.unreadable) == ["cervical fracture/val/normal/note.tif"]


def test_a_zip_names_the_classes_that_it_lacks(make_tree):
    root = make_tree(TREE)
    for name in ("fracture", "normal"):
        (root / f"val/{name}/val.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match="no readable image in val/normal and val/fracture"):
        index_dataset(zip_tree(root), skip_unreadable=True)


def test_a_zip_with_backslashes_is_read(make_tree, tmp_path):
    root = make_tree(FLAT)
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        for name in FLAT:
            entry = zipfile.ZipInfo("placeholder")
            # As some Windows tools write it; zipfile itself would turn the slash.
            entry.filename = name.replace("/", "\\")
            archive.writestr(entry, (root / name).read_bytes())
    windows = index_dataset(tmp_path / "windows.zip")
    assert windows.records == index_dataset(root).records


def test_a_slice_in_two_classes_is_named(make_tree, published):
    root = make_tree([*published, "cervical fracture/train/normal/CSFDV1B11 (1).png"])
    with pytest.raises(DataError, match=r"1 slice in both classes: .*B11 \(1\)"):
        index_dataset(root)
    assert len(scan_dataset(root).records) == len(published) + 1


def test_equal_bytes_in_two_classes_are_named(make_tree):
    root = make_tree(FLAT)
    shutil.copy(root / "Fracture/a.png", root / "normal/z.png")
    with pytest.raises(DataError, match=r"Fracture/a\.png and normal/z\.png"):
        index_dataset(root)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA", "LA", "I;16"])
def test_every_pixel_mode_is_read(make_tree, mode):
    root = make_tree(FLAT)
    grey = np.tile(np.arange(0, 256, 4, np.uint8), (64, 1))
    image = Image.fromarray(grey)
    wide = Image.fromarray(grey.astype(np.uint16) << 8)
    image = wide if mode == "I;16" else image.convert(mode)
    image.save(root / "normal/mode.png")
    assert len(index_dataset(root).records) == 4
