"""Writers of phantom sets as DICOM: CT series, and the layout of RSNA 2022's set.

Attributes follow the CT Image IOD (DICOM PS3.3 A.3). UIDs are made from the set's seed under the
UUID root 2.25 (PS3.5 B.2), so the same configuration writes the same files.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cspine.core.errors import DataError
from cspine.core.labels import FRACTURE
from cspine.core.synthetic_mark import DICOM_YES, MANUFACTURER
from cspine.phantom.config import LEVELS, PhantomConfig
from cspine.phantom.render import PhantomSlice, Truth, render_patient
from cspine.phantom.scanner import pad
from cspine.phantom.writers.parallel import run_per_patient, written_beside
from cspine.phantom.writers.slice_png import encode_mask
from cspine.phantom.writers.truth_table import make_row, write_table

_BOX_MARGIN_PX = 8
# Keyword → value.
_CONSTANTS = Path(__file__).with_name("ct_image.json")


def write_dicom(out: Path, config: PhantomConfig) -> Path:
    """Write one study of one series a patient, `out/<patient>/<n>.dcm`; return `out`.

    Beside them lie `slices.csv` and, of fractured slices, `masks/*.png`, 0 or 255.

    Raises:
        DataError: `out` holds something already.
    """
    with written_beside(out) as folder:
        (folder / "masks").mkdir()
        rows = run_per_patient(partial(_write_study, folder, config), config.patients)
        write_table(folder / "slices.csv", rows)
    return out


def write_rsna(out: Path, config: PhantomConfig) -> Path:
    """Write RSNA 2022's layout: `train.csv`, `train_bounding_boxes.csv`, `train_images/`.

    As irregular as the original: no Modality and few other attributes, two window centres in some
    files, signed 16-bit or unsigned 12-bit pixels, intercept 0 or -1024, explicit and implicit
    little endian and JPEG Lossless by patient; the folder of patient 1 is not named by its UID.

    Raises:
        DataError: `out` holds something already.
    """
    with written_beside(out) as folder:
        (folder / "train_images").mkdir()
        rows = run_per_patient(partial(_write_rsna_study, folder, config), config.patients)
        studies = [row for row in rows if "patient_overall" in row]
        boxes = [row for row in rows if "x" in row]
        names = ["StudyInstanceUID", "patient_overall", *LEVELS]
        write_table(folder / "train.csv", studies, names)
        names = ["StudyInstanceUID", "x", "y", "width", "height", "slice_number"]
        write_table(folder / "train_bounding_boxes.csv", boxes, names)
    return out


def make_uid(*parts: object) -> UID:
    """Return a valid UID that depends on `parts` alone."""
    # 128 bits are at most 39 digits: 44 characters of the 64 that a UID may have (PS3.5 9.1).
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(map(str, parts))).int}")


def _write_study(folder: Path, config: PhantomConfig, number: int) -> list[dict[str, Any]]:
    rows = []
    for item in render_patient(number, config):
        dataset = _ct_image(item, config)
        path = folder / item.truth.patient_id / f"{dataset.InstanceNumber:04d}.dcm"
        path.parent.mkdir(exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        mask = f"masks/{item.truth.slice_id}.png" if item.mask.any() else ""
        if mask:
            (folder / mask).write_bytes(encode_mask(item.mask))
        rows.append(make_row(item.truth, path.relative_to(folder).as_posix(), mask))
    return rows


def _key(config: PhantomConfig, truth: Truth) -> tuple[str, str]:
    """Return the parts of a patient's UIDs: all of the configuration, since another configuration
    makes other images of the same number."""
    return json.dumps(asdict(config)), truth.patient_id


def _bare_image(item: PhantomSlice, config: PhantomConfig, syntax: UID) -> Dataset:
    """Return a data set with identity, geometry and window, which all layouts have."""
    truth, number = item.truth, item.truth.slice_index + 1
    key = _key(config, truth)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.ImplementationClassUID = make_uid("cspine")
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = make_uid(*key, "image", number)
    ds.SyntheticData, ds.Manufacturer = DICOM_YES, MANUFACTURER
    # The same pseudonym in both: nothing here may pass for a real name.
    ds.PatientName = ds.PatientID = truth.patient_id
    ds.StudyInstanceUID, ds.SeriesInstanceUID = make_uid(*key, "study"), make_uid(*key, "series")
    ds.InstanceNumber = number
    side = 512 * truth.spacing_mm
    ds.ImagePositionPatient = [f"{-side / 2:.4f}", f"{-side / 2:.4f}", f"{truth.z_mm:.4f}"]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [f"{truth.spacing_mm:.4f}"] * 2
    ds.SliceThickness = f"{truth.thickness_mm:.3f}"
    ds.WindowCenter, ds.WindowWidth = (f"{value:.0f}" for value in item.patient.window)
    ds.RescaleSlope = 1
    return ds


def _set_pixels(ds: Dataset, item: PhantomSlice, is_signed: bool, intercept: int) -> None:
    """Store the Hounsfield units; unsigned pixels have 12 bits, signed ones 16."""
    # Slope 1, so that no Hounsfield unit is lost to rounding.
    stored = pad(item.hu, item.patient) - intercept
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = item.hu.shape
    # A CT image has 16 bits allocated and 12 to 16 stored (C.8.2.1). With intercept -1024 the
    # scanner's -1024 to 3071 HU fill 12 bits exactly.
    ds.BitsAllocated, ds.BitsStored = 16, 16 if is_signed else 12
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(is_signed)
    ds.RescaleIntercept = intercept
    ds.PixelData = stored.astype("<i2" if is_signed else "<u2").tobytes()
    # More than 8 bits are OW, in the explicit syntax too (PS3.5 A.2).
    ds["PixelData"].VR = "OW"


def _ct_image(item: PhantomSlice, config: PhantomConfig) -> Dataset:
    """Return a whole CT image, with every attribute that the IOD requires (PS3.3 A.3)."""
    ds = _bare_image(item, config, ExplicitVRLittleEndian)
    # The same in all images: a fixed date, so that the same arguments give the same bytes on any
    # day, and attributes of type 2, which must be present and may be empty (PS3.5 7.4.3).
    for keyword, value in json.loads(_CONSTANTS.read_text(encoding="utf-8")).items():
        setattr(ds, keyword, value)
    ds.SoftwareVersions = config.version
    ds.FrameOfReferenceUID = make_uid(*_key(config, item.truth), "frame")
    ds.ConvolutionKernel = "BONE" if item.patient.bone_kernel else "SOFT"
    _set_pixels(ds, item, is_signed=False, intercept=-1024)
    return ds


def _write_rsna_study(folder: Path, config: PhantomConfig, number: int) -> list[dict[str, Any]]:
    """Write one study; return its row of labels and its rows of boxes."""
    items = render_patient(number, config)
    uid = make_uid(*_key(config, items[0].truth), "study")
    study = folder / "train_images" / (uid if number != 1 else make_uid(uid, "renamed"))
    study.mkdir()
    for item in items:
        _write_rsna_image(item, config, number, study / f"{item.truth.slice_index + 1}.dcm")
    broken = [item for item in items if item.truth.label == FRACTURE]
    levels = {item.truth.level for item in broken}
    row = {"StudyInstanceUID": uid, "patient_overall": int(bool(broken))}
    row.update({level: int(level in levels) for level in LEVELS})
    return [row, *(_box_row(uid, item) for item in broken if item.mask.any())]


def _box_row(uid: str, item: PhantomSlice) -> dict[str, Any]:
    rows, columns = np.nonzero(item.mask)
    # Boxes by hand never fit tightly.
    x, y = int(columns.min()) - _BOX_MARGIN_PX, int(rows.min()) - _BOX_MARGIN_PX
    return {
        "StudyInstanceUID": uid,
        "x": f"{x:.1f}",
        "y": f"{y:.1f}",
        "width": f"{columns.max() + 1 + _BOX_MARGIN_PX - x:.1f}",
        "height": f"{rows.max() + 1 + _BOX_MARGIN_PX - y:.1f}",
        "slice_number": item.truth.slice_index + 1,
    }


def _write_rsna_image(item: PhantomSlice, config: PhantomConfig, number: int, path: Path) -> None:
    # The irregularities of the real files, chosen by the number of the patient in steps of 2, 3
    # and 4, so that any twelve patients in a row have every combination.
    implicit = number % 3 == 1
    ds = _bare_image(item, config, ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)
    is_signed = number % 2 == 0
    _set_pixels(ds, item, is_signed, intercept=0 if is_signed else -1024)
    if number % 4 == 3:
        ds.WindowCenter, ds.WindowWidth = [ds.WindowCenter, 40], [ds.WindowWidth, 400]
    ds.save_as(path, enforce_file_format=True)
    if number % 3 == 2:
        _compress(path)


def _compress(path: Path) -> None:
    """Turn a file into JPEG Lossless (process 14, first-order prediction), in place."""
    beside = path.with_suffix(".jpeg")
    reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    writer.SetFileName(str(beside))
    is_read = reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    if not (is_read and change.Change()):
        raise DataError(f"`{path}` must be compressible. Received: an error of the JPEG coder")
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise DataError(f"`{beside}` must be writable. Received: an error while writing")
    # The coder adds attributes, Modality among them, that the set must not have.
    plain, coded = dcmread(path), dcmread(beside)
    plain.PixelData, plain["PixelData"].VR = coded.PixelData, "OB"
    # Encapsulated pixels are OB of undefined length (PS3.5 A.4).
    plain["PixelData"].is_undefined_length = True
    plain.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID
    plain.save_as(beside, enforce_file_format=True)
    beside.replace(path)
