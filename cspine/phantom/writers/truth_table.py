"""Writer of a phantom set's truth table, one row per file, which the project's CSV reader reads."""

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
    """Return the row of the file at `path`; all paths are relative to the table's folder."""
    values = {name: getattr(truth, name, "") for name in COLUMNS} | {
        "path": path,
        "label": truth.label_name,
        "swelling": int(truth.is_swollen),
        "mask_path": mask_path,
        "twin_path": twin_path,
    }
    return {name: _as_cell(value) for name, value in values.items()}


def _as_cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else value


def write_table(
    path: Path, rows: Iterable[dict[str, Any]], columns: Iterable[str] = COLUMNS
) -> None:
    """Write the rows as CSV with a header line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
