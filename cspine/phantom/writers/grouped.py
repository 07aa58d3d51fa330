"""Writer of phantom sets as 512² PNGs with masks, twins and a table of the truth.

A twin is the same slice without its fracture. Worker processes render the patients, and each file
is written by one process, so the bytes do not depend on the number of processes. A set is written
to a hidden folder that is renamed at the end, so the set is either complete or absent.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from cspine.core.labels import MEDICAL_NOTICE
from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import render_patient
from cspine.phantom.writers.parallel import run_per_patient, written_beside
from cspine.phantom.writers.slice_png import encode_mask, encode_slice
from cspine.phantom.writers.truth_table import make_row, write_table


def write_grouped(out: Path, config: PhantomConfig) -> Path:
    """Write `images/`, `masks/`, `twins/`, `slices.csv`, `phantom.json` to `out`; return `out`.

    The pixels of masks are 0 or 255. Only fractured slices have masks and twins.

    Raises:
        DataError: `out` is a file, or a folder that is not empty.
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
            # The notice is part of the set, because folders are often passed on without their
            # description.
            "notice": f"Synthetic images. {MEDICAL_NOTICE}",
        }
        (folder / "phantom.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
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
