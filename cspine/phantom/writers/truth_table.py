"""The truth of a set as a table: one row a file, which the project's CSV loader reads as well."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cspine.phantom.render import Truth

COLUMNS = tuple(
    (
        "path label split level patient_id slice_id slice_index z_mm spacing_mm "
        "fracture_type width_mm displacement_mm visible_area_mm2 visible_length_mm "
        "swelling hard_negative mask_path twin_path"
    ).split()
)


def make_row(truth: Truth, path: str, mask_path: str = "", twin_path: str = "") -> dict[str, Any]:
    """Return the row of the file at `path`; paths are relative to the table."""

    def rounded(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    return {
        "path": path,
        "label": truth.label_name,
        "split": "",
        "level": truth.level,
        "patient_id": truth.patient_id,
        "slice_id": truth.slice_id,
        "slice_index": truth.slice_index,
        "z_mm": rounded(truth.z_mm),
        "spacing_mm": rounded(truth.spacing_mm),
        "fracture_type": truth.fracture_type,
        "width_mm": rounded(truth.width_mm),
        "displacement_mm": rounded(truth.displacement_mm),
        "visible_area_mm2": rounded(truth.visible_area_mm2),
        "visible_length_mm": rounded(truth.visible_length_mm),
        "swelling": int(truth.is_swollen),
        "hard_negative": truth.hard_negative,
        "mask_path": mask_path,
        "twin_path": twin_path,
    }


def write_table(
    path: Path, rows: Iterable[dict[str, Any]], columns: Iterable[str] = COLUMNS
) -> None:
    """Write the rows as CSV, with a heading."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
