"""Writers of phantom sets as DICOM: complete CT series, and the layout of the RSNA 2022 set.

Attributes follow the CT Image IOD (DICOM PS3.3 A.3). UIDs are derived from the set's configuration
under the UUID root 2.25 (PS3.5 B.2), so equal configurations give equal files.
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
# The file maps DICOM keywords to the values that all CT images share.
_CONSTANTS = Path(__file__).with_name("ct_image.json")


def write_dicom(out: Path, config: PhantomConfig) -> Path:
    """Write one study with one series per patient, `out/<patient>/<n>.dcm`; return `out`.

    `out` also gets `slices.csv` and, for slices with a visible fracture, masks of 0 and 255 in
    `masks/*.png`.

    Raises:
        DataError: `out` is a file, or a folder that is not empty.
    """
    with written_beside(out) as folder:
        (folder / "masks").mkdir()
        rows = run_per_patient(partial(_write_study, folder, config), config.patients)
        write_table(folder / "slices.csv", rows)
    return out


def write_rsna(out: Path, config: PhantomConfig) -> Path:
    """Write RSNA 2022's layout: `train.csv`, `train_bounding_boxes.csv`, `train_images/`.

    The files are as irregular as the originals. All lack Modality and most other attributes, and
    some have two window centres. Depending on the patient, pixels are signed with 16 bits or
    unsigned with 12 bits, the intercept is 0 or -1024, and the transfer syntax is explicit or
    implicit little endian or JPEG Lossless. The folder of patient 1 does not have the study's UID
    as its name.

    Raises:
        DataError: `out` is a file, or a folder that is not empty.
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
    """Return a valid UID that depends only on `parts`."""
    # 128 bits are at most 39 digits, which gives at most 44 of the 64 characters that a UID may
    # have (PS3.5 9.1).
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
    """Return the first parts of a patient's UIDs: the configuration and the patient.

    The complete configuration is part of them, because another configuration gives other images
    for the same patient number.
    """
    return json.dumps(asdict(config)), truth.patient_id


def _bare_image(item: PhantomSlice, config: PhantomConfig, syntax: UID) -> Dataset:
    """Return a DICOM data set with identity, geometry and window, which both layouts have."""
    truth, number = item.truth, item.truth.slice_index + 1
    key = _key(config, truth)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.ImplementationClassUID = make_uid("cspine")
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = make_uid(*key, "image", number)
    ds.SyntheticData, ds.Manufacturer = DICOM_YES, MANUFACTURER
    # Name and ID are the same pseudonym, so that neither looks like that of a real person.
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
    """Store the Hounsfield units as pixels, unsigned with 12 bits or signed with 16 bits."""
    # `_bare_image` sets the rescale slope to 1, so rounding loses no Hounsfield unit.
    stored = pad(item.hu, item.patient) - intercept
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = item.hu.shape
    # A CT image has 16 bits allocated and 12 to 16 stored (C.8.2.1). With intercept -1024, the
    # scanner's range of -1024 to 3071 HU fills 12 bits exactly.
    ds.BitsAllocated, ds.BitsStored = 16, 16 if is_signed else 12
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(is_signed)
    ds.RescaleIntercept = intercept
    ds.PixelData = stored.astype("<i2" if is_signed else "<u2").tobytes()
    # Pixels of more than 8 bits have the VR OW, in the explicit syntax too (PS3.5 A.2).
    ds["PixelData"].VR = "OW"


def _ct_image(item: PhantomSlice, config: PhantomConfig) -> Dataset:
    """Return a complete CT image, with every attribute that the IOD requires (PS3.3 A.3)."""
    ds = _bare_image(item, config, ExplicitVRLittleEndian)
    # The constants hold a fixed date, so that equal arguments give equal bytes on any day, and
    # attributes of type 2, which must be present but may be empty (PS3.5 7.4.3).
    for keyword, value in json.loads(_CONSTANTS.read_text(encoding="utf-8")).items():
        setattr(ds, keyword, value)
    ds.SoftwareVersions = config.version
    ds.FrameOfReferenceUID = make_uid(*_key(config, item.truth), "frame")
    ds.ConvolutionKernel = "BONE" if item.patient.bone_kernel else "SOFT"
    _set_pixels(ds, item, is_signed=False, intercept=-1024)
    return ds


def _write_rsna_study(folder: Path, config: PhantomConfig, number: int) -> list[dict[str, Any]]:
    """Write one study; return its row of labels and the rows of its bounding boxes."""
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
    # The margin imitates boxes drawn by hand, which never fit tightly.
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
    # The irregularities of the real files depend on the remainders of the patient's number modulo
    # 2, 3 and 4, so twelve consecutive patients have every combination that occurs.
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
    """Compress a file in place as JPEG Lossless (process 14, first-order prediction)."""
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
    # The coder adds attributes that the set must not have, such as Modality, so only its pixels
    # are taken over.
    plain, coded = dcmread(path), dcmread(beside)
    plain.PixelData, plain["PixelData"].VR = coded.PixelData, "OB"
    # Encapsulated pixels have the VR OB and an undefined length (PS3.5 A.4).
    plain["PixelData"].is_undefined_length = True
    plain.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID
    plain.save_as(beside, enforce_file_format=True)
    beside.replace(path)
