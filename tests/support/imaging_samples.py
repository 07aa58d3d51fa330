"""Files made in memory for the imaging tests, with Pillow, pydicom and GDCM."""

import io
from pathlib import Path

import gdcm
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def make_picture(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_ramp(height: int = 24, width: int = 32) -> np.ndarray:
    """uint8 (height, width) in which no two rows or columns are alike."""
    rows, columns = np.mgrid[:height, :width]
    return ((rows * 7 + columns * 3) % 256).astype(np.uint8)


def make_ct(stored: np.ndarray | None = None, **changes) -> Dataset:
    """A small CT slice: 12 bits unsigned, HU = stored − 1024; `None` drops an attribute."""
    stored = make_ramp().astype(np.uint16) * 8 if stored is None else stored
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    fields = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=["slice"]),
        "Modality": "CT",
        "PatientName": "Planted^Name",
        "PatientID": "planted-id",
        "SeriesInstanceUID": generate_uid(entropy_srcs=["series"]),
        "InstanceNumber": 7,
        "ImagePositionPatient": [0, 0, -12.5],
        "PixelSpacing": [0.4, 0.5],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
    }
    for keyword, value in (fields | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def write_ct(dataset: Dataset, preamble: bool = True) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=preamble)
    return buffer.getvalue()


def ct_bytes(stored: np.ndarray | None = None, **changes) -> bytes:
    return write_ct(make_ct(stored, **changes))


def compress(folder: Path, name: str, stored: np.ndarray, bits: int, **changes) -> bytes:
    """The slice, compressed."""
    source = folder / "source.dcm"
    source.write_bytes(ct_bytes(stored, BitsStored=bits, HighBit=bits - 1, **changes))
    return change_syntax(source, name)


def change_syntax(source: Path, name: str) -> bytes:
    """The file with its pixels compressed by GDCM into the transfer syntax of that name."""
    target = source.with_suffix(".target.dcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target.read_bytes()
