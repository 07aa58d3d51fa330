"""Writes phantom sets as pictures: grouped 512² PNGs with their truth, or the published layout.

Patients are rendered by worker processes, each file by one of them, so the bytes do not depend on
how many there are. A set is written beside its place and renamed, so a folder is whole or absent.
The other writers and the demo's slices are re-exported here: this is the room's front door.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cspine.core.errors import DataError
from cspine.core.labels import MEDICAL_NOTICE
from cspine.core.synthetic_mark import PNG_KEYWORD, PNG_TEXT
from cspine.phantom.config import PhantomConfig
from cspine.phantom.demo import DemoSlice, demo_slices
from cspine.phantom.dicom_sets import write_dicom, write_rsna
from cspine.phantom.patient import VARIANTS, stream
from cspine.phantom.png import encode_mask, encode_slice
from cspine.phantom.published import PUBLISHED_SIDE_PX, make_variants, published_name
from cspine.phantom.render import PhantomSlice, Truth, render_patient
from cspine.phantom.table import make_row, write_table
from cspine.phantom.workers import run_per_patient, written_beside

__all__ = [
    "DemoSlice", "PhantomConfig", "PhantomSlice", "Truth", "demo_slices", "render_patient",
    "write_dicom", "write_grouped", "write_kaggle", "write_rsna",
]  # fmt: skip

_FAST = 1  # of PNG's compression; noise hardly shrinks further


def write_grouped(out: Path, config: PhantomConfig) -> Path:
    """Write `images/`, `masks/`, `twins/`, `slices.csv` and `phantom.json` into `out`; return it.

    Masks are 0 or 255 and stand beside fractured slices only, as do the twins.

    Raises:
        DataError: `out` holds something already.
    """
    with written_beside(out) as folder:
        for name in ("images", "masks", "twins"):
            (folder / name).mkdir()
        rows = run_per_patient(partial(_write_patient, folder, config), config.patients)
        table = folder / "slices.csv"
        write_table(table, rows)
        digest = hashlib.sha256(table.read_bytes()).hexdigest()
        about = {
            "version": config.version,
            "config": asdict(config),
            "slices_csv_sha256": digest,
            # In the set itself, since folders are passed on without what was said of them.
            "notice": f"Synthetic images. {MEDICAL_NOTICE}",
        }
        (folder / "phantom.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return out


def write_kaggle(out: Path, config: PhantomConfig) -> Path:
    """Write `cervical fracture/{train,val}/{fracture,normal}/*.png` into `out`; return `out`.

    224² RGB; one series a patient. As published, the files of each class are cut in alphabetical
    order, the first tenth into `val`: with `config.variants` the cut goes through a slice's copies.
    Beside the folder lies `truth.csv`, which no loader takes for a data set's table.

    Raises:
        DataError: `out` holds something already, or a class would have no file in a split.
    """
    with written_beside(out) as folder:
        # By class first: the cut into splits needs all names in order.
        staged = folder / "staged"
        staged.mkdir()
        rows = run_per_patient(partial(_write_series, staged, config), config.patients)
        by_name = {row["path"]: row for row in rows}
        for label in ("fracture", "normal"):
            files = sorted(staged.glob(f"{label}/*.png"))
            if len(files) < 2:
                raise DataError(
                    f"Each class must have 2 slices, one for each split. Received: {len(files)} "
                    f"of {label}; ask for more patients or slices"
                )
            # The published cut, through whatever slice lies there.
            held_out = max(1, len(files) // 10)
            for split, part in (("val", files[:held_out]), ("train", files[held_out:])):
                place = folder / "cervical fracture" / split / label
                place.mkdir(parents=True)
                for file in part:
                    moved = file.rename(place / file.name)
                    path = moved.relative_to(folder).as_posix()
                    by_name[file.name].update(path=path, split=split)
            (staged / label).rmdir()
        staged.rmdir()
        write_table(folder / "truth.csv", rows)
    return out


def _write_patient(folder: Path, config: PhantomConfig, number: int) -> list[dict[str, Any]]:
    """Write one patient's pictures; return the rows of the table."""
    rows = []
    for item in render_patient(number, config):
        name = f"{item.truth.slice_id}.png"
        (folder / "images" / name).write_bytes(encode_slice(item.grey))
        if item.twin_grey is not None:
            (folder / "masks" / name).write_bytes(encode_mask(item.mask))
            (folder / "twins" / name).write_bytes(encode_slice(item.twin_grey))
        besides = (f"masks/{name}", f"twins/{name}") if item.twin_grey is not None else ()
        rows.append(make_row(item.truth, f"images/{name}", *besides))
    return rows


def _write_series(folder: Path, config: PhantomConfig, number: int) -> list[dict[str, Any]]:
    """Write one series of the published kind, unsorted into splits; return rows by file name."""
    rows = []
    mark = PngInfo()
    mark.add_text(PNG_KEYWORD, PNG_TEXT)
    for item in render_patient(number, config):
        place = folder / item.truth.label_name
        # Another patient's process may have made it.
        place.mkdir(exist_ok=True)
        stem = published_name(number, item.truth.slice_index, config.slices_per_patient)
        whole = Image.fromarray(item.grey)
        rng = stream(VARIANTS, *item.patient.key, item.place.index)
        copies = make_variants(whole, rng) if config.variants else {"": whole}
        for suffix, picture in copies.items():
            small = picture.resize((PUBLISHED_SIDE_PX,) * 2, Image.Resampling.BICUBIC)
            name = f"{stem}{suffix}.png"
            small.convert("RGB").save(
                place / name, pnginfo=mark, compress_level=_FAST, compress_type=zlib.Z_RLE
            )
            rows.append(make_row(item.truth, name))
    return rows
