"""Nothing is silent: every file is read, or named with the reason why it was left out."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
from PIL import Image

from cspine.core.errors import DataError
from cspine.data.audit.audit import audit_dataset
from cspine.data.index import index_dataset, scan_dataset
from cspine.imaging.image_files import list_folder
from cspine.predict.batch import find_images
from support.imaging_samples import ct_bytes
from support.leftovers import LOCALISER, SAGITTAL, draw, encode, make_leftovers, write_mixed


def test_there_are_a_hundred_kinds_of_leftovers():
    assert len(make_leftovers()) >= 100


def test_every_file_of_a_mixed_folder_is_read_or_named(tmp_path):
    slices, leftovers, broken = write_mixed(tmp_path, 400)
    trained = index_dataset(tmp_path, skip_unreadable=True)
    audited = scan_dataset(tmp_path)
    evaluated = index_dataset(tmp_path, skip_unreadable=True, accept_blank=True)
    for dataset in (trained, audited, evaluated):
        assert {record.path for record in dataset.records} == slices
        assert set(dataset.left_out) == leftovers
        assert set(dataset.unreadable) == broken
    line = f"Left out {len(leftovers)} files: "
    assert any(said.startswith(line) for said in audit_dataset(audited).details())
    found, left_out = find_images([tmp_path])
    named = {path.relative_to(tmp_path).as_posix() for path in found}
    others = {name for name in leftovers if name.endswith(".dcm")}  # these can be answered
    assert named == slices | broken | others
    assert len(found) + len(left_out) == 400


def write_tree(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def make_pictures(count, first=0):
    names = ("fracture", "normal")
    return {f"{names[n % 2]}/{n}.png": encode(n, "PNG") for n in range(first, first + count)}


def test_localisers_and_reformats_are_left_out_and_named(tmp_path, caplog):
    files = make_pictures(4) | {
        "normal/scout": ct_bytes(draw(9).astype(np.uint16), **LOCALISER),
        "fracture/side.dcm": ct_bytes(draw(9).astype(np.uint16), **SAGITTAL),
    }
    with caplog.at_level(logging.WARNING):
        dataset = index_dataset(write_tree(tmp_path, files))
    assert len(dataset.records) == 4
    assert "ImageType LOCALIZER" in dataset.left_out["normal/scout"]
    assert "not axial" in dataset.left_out["fracture/side.dcm"]
    assert "Left out 2 files" in caplog.text
    assert "normal/scout" in caplog.text


def test_links_to_folders_are_followed_and_loops_refused(tmp_path):
    target = write_tree(tmp_path / "elsewhere", make_pictures(4))
    root = tmp_path / "set"
    root.mkdir()
    for name in ("fracture", "normal"):
        (root / name).symlink_to(target / name)
    (target / "normal/up").symlink_to(target)
    (root / "self").symlink_to(root)
    dataset = index_dataset(root)
    assert len(dataset.records) == 4
    assert dataset.left_out == {
        "self": "a link to a folder that holds it",
        "normal/up": "a link to a folder that holds it",
    }


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    # The rights of a folder do not stop root, so a file stands for it.
    (tmp_path / "normal").write_bytes(b"")
    with pytest.raises(DataError, match=r"normal` must be a readable folder\. Received: Not a"):
        list_folder(tmp_path / "normal")


def black(level: int = 3) -> bytes:
    return encode_array(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) % (level + 1))


def encode_array(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_a_few_blank_images_are_left_out_and_named(tmp_path):
    files = make_pictures(200) | {"normal/black.png": black()}
    dataset = index_dataset(write_tree(tmp_path, files))
    assert len(dataset.records) == 200
    assert dataset.left_out == {"normal/black.png": "nearly black or white"}
    assert scan_dataset(tmp_path).blank == ("normal/black.png",)


@pytest.mark.parametrize(("level", "is_blank"), [(7, True), (8, False)])
def test_a_blank_image_shows_under_eight_levels(tmp_path, level, is_blank):
    files = make_pictures(200) | {"normal/dark.png": black(level)}
    assert bool(scan_dataset(write_tree(tmp_path, files)).blank) == is_blank


def test_many_blank_images_end_training_unless_they_are_accepted(tmp_path):
    files = make_pictures(100) | {f"normal/black{n}.png": black(n) for n in (2, 3)}
    write_tree(tmp_path, files)
    with pytest.raises(DataError, match=r"2 of 102 images nearly black .*normal/black2\.png"):
        index_dataset(tmp_path)
    assert len(index_dataset(tmp_path, accept_blank=True).records) == 102


def test_a_class_that_is_all_blank_ends_training(tmp_path):
    files = {name: data for name, data in make_pictures(400).items() if "fracture" in name}
    files |= {"normal/black.png": black()}
    with pytest.raises(DataError, match="among them all of class normal"):
        index_dataset(write_tree(tmp_path, files))


def test_sixteen_bit_pictures_of_twelve_bits_end_training_and_the_audit_names_them(tmp_path):
    names = ("fracture", "normal")
    deep = {
        f"{names[n % 2]}/{n}.png": encode_array(draw(n).astype(np.uint16) * 12) for n in range(8)
    }
    write_tree(tmp_path, deep)
    with pytest.raises(DataError, match="8 of 8 images nearly black"):
        index_dataset(tmp_path)
    details = audit_dataset(scan_dataset(tmp_path)).details()
    assert any("lowest 12 bits" in line and "8 images, such as" in line for line in details)
