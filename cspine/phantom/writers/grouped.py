"""Write phantom sets as 512² PNGs with masks, twins and a table of the truth.

Patients are rendered by worker processes, each file by one of them, so the bytes do not depend on
how many there are. A set is written to a hidden folder and renamed, so it is whole or absent.
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
    """Write `images/`, `masks/`, `twins/`, `slices.csv` and `phantom.json` into `out`; return it.

    Masks are 0 or 255; only fractured slices have masks and twins.

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
