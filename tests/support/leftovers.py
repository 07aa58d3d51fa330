"""A folder as people have them: slices among a hundred kinds of files that are none."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.uid import generate_uid

from .imaging_samples import ct_bytes, make_ct, write_ct

LOCALISER = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
SAGITTAL = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}


def draw(number: int) -> np.ndarray:
    """uint8 (64, 64), another picture for every number."""
    return np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)


def encode(number: int, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(draw(number)).save(out, kind)
    return out.getvalue()


def make_slice(number: int) -> tuple[str, bytes]:
    """Name and bytes of one slice, in turn with every suffix that people use."""
    forms = (
        (".png", "PNG"), (".PNG", "PNG"), (".jpg", "JPEG"), (".jfif", "JPEG"), ("", "PNG"),
        (".tmp", "JPEG"), (".dcm", ""), (".dicom", ""), (".ima", ""), ("", ""),
    )  # fmt: skip
    suffix, kind = forms[number % len(forms)]
    uid = generate_uid(entropy_srcs=[str(number)])
    stored = draw(number).astype(np.uint16) * 8
    data = encode(number, kind) if kind else ct_bytes(stored, SOPInstanceUID=uid)
    return f"IM{number:06d}{suffix}", data


def make_leftovers() -> dict[str, bytes]:
    """Name → bytes of files that are no slices: a hundred kinds."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "a")
    texts = (
        "txt md csv tsv json xml html htm yaml yml toml ini cfg log py ipynb m r sh bat ps1 "
        "url desktop sql tex bib rtf srt vtt css js ts java c h cpp rs go rb pl lua tcl env lock "
        "properties plist svg geojson nrrd mhd mha gipl vtk stl obj ply"
    ).split()
    files = {f"leftover.{suffix}": b"a note, no image\n" for suffix in texts}
    starts = {
        "pdf": b"%PDF-1.7", "zip": packed.getvalue(), "docx": packed.getvalue(), "gz": b"\x1f\x8b",
        "nii": b"n+1\0", "mp4": b"\0\0\0\x18ftypmp42", "avi": b"RIFF\0\0\0\0AVI ", "exe": b"MZ",
        "so": b"\x7fELF", "npy": b"\x93NUMPY", "h5": b"\x89HDF\r\n", "pkl": b"\x80\x04",
        "db": b"SQLite format 3\0", "7z": b"7z\xbc\xaf", "rar": b"Rar!", "bz2": b"BZh9",
        "xz": b"\xfd7zXZ", "ttf": b"\0\1\0\0", "mp3": b"ID3", "wav": b"RIFF\0\0\0\0WAVE",
        "psd": b"8BPS", "ico": b"\0\0\1\0", "doc": b"\xd0\xcf\x11\xe0", "iso": bytes(64),
        "bin": bytes(range(64)), "dat": b"\xff" * 64, "raw": b"\x01" * 64, "bak": b"old",
        "part": b"half", "crdownload": b"half", "swp": b"b0VIM", "orig": b"x", "rej": b"x",
    }  # fmt: skip
    files |= {f"leftover.{suffix}": data for suffix, data in starts.items()}
    files |= {
        "Thumbs.db": b"\xd0\xcf\x11\xe0", ".DS_Store": b"\0\0\0\1Bud1", "DICOMDIR": b"",
        "empty": b"", "Icon\r": b"", ".directory": b"[Desktop Entry]", "core.1234": b"\x7fELF",
        "LICENSE": b"text", "README": b"text", "._IM000001.png": b"\0\5\x16\7",
        "scout.dcm": ct_bytes(draw(1).astype(np.uint16) * 8, **LOCALISER),
        "sagittal.dcm": ct_bytes(draw(2).astype(np.uint16) * 8, **SAGITTAL),
    }  # fmt: skip
    return files


def make_unreadable() -> dict[str, bytes]:
    """Name → bytes of files that were meant to be images."""
    report = make_ct()
    report.Modality = "SR"
    return {
        "page.png": b"<!DOCTYPE html>", "pointer.png": b"version https://git-lfs.github.com/spec/v1",
        "half.png": encode(3, "PNG")[:200], "old.bmp": encode(4, "BMP"),
        "report.dcm": write_ct(report),
    }  # fmt: skip


def write_mixed(root: Path, count: int) -> tuple[set[str], set[str], set[str]]:
    """Write `count` files into two class folders; return the slices, the leftovers, the broken."""
    leftovers, unreadable = list(make_leftovers().items()), list(make_unreadable().items())
    written: tuple[list[str], list[str], list[str]] = ([], [], [])
    for number in range(count):
        kind = 1 if number % 3 == 2 else 2 if number % 50 == 49 else 0
        name, data = make_slice(number)
        if kind:
            of_kind = (leftovers, unreadable)[kind - 1]
            name, data = of_kind[len(written[kind]) % len(of_kind)]
            # Hidden files stay hidden.
            name = f".{number}{name}" if name.startswith(".") else f"{number}{name}"
        path = root / ("fracture", "normal")[number // 2 % 2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        written[kind].append(path.relative_to(root).as_posix())
    return set(written[0]), set(written[1]), set(written[2])
