"""DICOM series that readers open without complaint, and RSNA's layout with its oddities."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from PIL import Image

from cspine.core.labels import FRACTURE
from cspine.data.index import index_dataset
from cspine.imaging.decode import decode_image
from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import render_patient
from cspine.phantom.scanner import pad
from cspine.phantom.writers.dicom_layouts import write_dicom, write_rsna

CONFIG = PhantomConfig(patients=3, slices_per_patient=2)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return sorted(write_dicom(tmp_path_factory.mktemp("dicom") / "set", CONFIG).rglob("*.dcm"))


def test_pydicom_reads_the_series(series):
    read = [pydicom.dcmread(path) for path in series]
    assert len({ds.StudyInstanceUID for ds in read}) == 3
    assert all(ds.SOPInstanceUID.is_valid and ds.StudyInstanceUID.is_valid for ds in read)
    item = render_patient(0, CONFIG)[0]
    # A scanner stores nothing but padding outside its round field.
    hu = read[0].pixel_array * float(read[0].RescaleSlope) + float(read[0].RescaleIntercept)
    assert item.patient.round_field and (hu == pad(item.hu, item.patient)).all()
    assert (hu[[0, 0, -1, -1], [0, -1, 0, -1]] == -1024).all() and hu[256, 1] > -1024


def test_a_dicom_set_has_its_truth_in_a_table_that_the_loader_reads(series):
    folder = series[0].parent.parent
    dataset = index_dataset(folder)
    assert {record.path for record in dataset.records} == {
        path.relative_to(folder).as_posix() for path in series
    }
    fractured = [record for record in dataset.records if record.label == FRACTURE]
    assert fractured and all(r.width_mm and (folder / r.mask_path).is_file() for r in fractured)


def test_another_set_of_the_same_seed_has_other_uids(series, tmp_path):
    other = write_dicom(tmp_path / "set", replace(CONFIG, slices_per_patient=3))
    uids = [
        {pydicom.dcmread(p).SOPInstanceUID for p in paths}
        for paths in (series, other.rglob("*.dcm"))
    ]
    assert not uids[0] & uids[1]


def test_our_own_decoder_agrees(series):
    decoded = decode_image(series[0].read_bytes())
    item = render_patient(0, CONFIG)[0]
    assert (decoded.hu == pad(item.hu, item.patient)).all()
    assert decoded.spacing_mm == item.truth.spacing_mm


def run_dcmtk(names, *arguments):
    """Run the first of dcmtk's tools in `names` that is installed; return its standard output."""
    tool = next(filter(None, map(shutil.which, names)), None)
    if tool is None:
        assert os.environ.get("CI") != "true", "dcmtk must be installed where CI=true"
        pytest.skip(f"dcmtk's {names[0]} is not installed")
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, check=True)
    assert done.stderr == ""  # where dcmtk's warnings go
    return done.stdout


def test_dcmdump_finds_no_fault(series):
    for path in series:
        out = run_dcmtk(["dcmdump"], path)
        assert "CTImageStorage" in out


def test_dcmtk_shows_the_picture_that_we_decode(series, tmp_path):
    # Newer releases of dcmtk call `dcm2pnm` `dcm2img`.
    run_dcmtk(["dcm2img", "dcm2pnm"], "+on", "+Wi", "1", series[0], tmp_path / "shown.png")
    with Image.open(tmp_path / "shown.png") as shown:
        # A viewer shows the file's own window.
        ours = decode_image(series[0].read_bytes(), dicom_window="header").grey
        assert np.abs(np.asarray(shown.convert("L")).astype(int) - ours).max() <= 1


def test_rsna_oddities(tmp_path):
    folder = write_rsna(tmp_path / "set", CONFIG)
    paths = sorted(folder.glob("train_images/*/1.dcm"))
    read = [pydicom.dcmread(path) for path in paths]
    assert not any("Modality" in ds for ds in read)
    assert len({ds.file_meta.TransferSyntaxUID for ds in read}) == 3
    assert sum(p.parent.name != ds.StudyInstanceUID for p, ds in zip(paths, read, strict=True)) == 1
    assert all(decode_image(path.read_bytes()).hu.shape == (512, 512) for path in paths)
    with (folder / "train.csv").open(encoding="utf-8") as file:
        assert {row["StudyInstanceUID"] for row in csv.DictReader(file)} == {
            ds.StudyInstanceUID for ds in read
        }
