"""DICOM series that readers open without complaint, and RSNA's layout with its oddities."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess

import pydicom
import pytest

from cspine.imaging.decode import decode_image
from cspine.phantom.dataset import PhantomConfig, render_patient, write_dicom, write_rsna

CONFIG = PhantomConfig(patients=3, slices_per_patient=2)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return sorted(write_dicom(tmp_path_factory.mktemp("dicom") / "set", CONFIG).rglob("*.dcm"))


def test_pydicom_reads_the_series(series):
    read = [pydicom.dcmread(path) for path in series]
    assert len({ds.StudyInstanceUID for ds in read}) == 3
    assert all(ds.SOPInstanceUID.is_valid and ds.StudyInstanceUID.is_valid for ds in read)
    expected = render_patient(0, CONFIG)[0].hu
    hu = read[0].pixel_array * float(read[0].RescaleSlope) + float(read[0].RescaleIntercept)
    assert (hu == expected).all()


def test_our_own_decoder_agrees(series):
    decoded = decode_image(series[0].read_bytes())
    item = render_patient(0, CONFIG)[0]
    assert (decoded.hu == item.hu).all() and decoded.spacing_mm == item.truth.spacing_mm


def test_dcmdump_finds_no_fault(series):
    dcmdump = shutil.which("dcmdump")
    if dcmdump is None:
        assert os.environ.get("CI") != "true", "dcmtk must be installed where CI=true"
        pytest.skip("dcmtk is not installed")
    done = subprocess.run([dcmdump, str(series[0])], capture_output=True, text=True, check=True)
    assert done.stderr == "" and "CTImageStorage" in done.stdout


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
