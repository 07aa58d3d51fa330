"""Reads a CSV of slices: the phantom's `slices.csv`, or a user's own list of images.

Columns: `path` and `label` are needed; `split`, `patient_id`, `volume_id`, `slice_id`,
`mask_path`, `twin_path`, `width_mm`, `level` and `slice_index` are used where present, others are
ignored; an empty cell is "not known". Paths are relative to the CSV's folder.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import PurePosixPath

from cspine.core.errors import DataError
from cspine.core.labels import label_index
from cspine.data.layouts.class_folders import SPLIT_NAMES
from cspine.data.layouts.filenames import parse_name
from cspine.data.records import SliceRecord
from cspine.data.storage import MAX_TABLE_BYTES, Storage

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def index_table(storage: Storage, table: str) -> tuple[list[SliceRecord], list[str]]:
    """Return a record of each sound row of the CSV `table` in `storage`, and the faulty rows.

    A row is faulty that names no file or one that an earlier row names, or whose cells cannot be
    read.

    Raises:
        DataError: the table cannot be read or lacks a column.
    """
    folder = "" if "/" not in table else table.rsplit("/", 1)[0] + "/"
    records: list[SliceRecord] = []
    rows: list[dict[str, str]] = []
    faults: list[str] = []
    line_of: dict[str, int] = {}
    # Line 1 holds the columns' names.
    for number, row in enumerate(_read_rows(storage, table), start=2):
        try:
            record = _read_row(row, folder, storage)
        except (DataError, ValueError) as error:
            faults.append(f"{table}, line {number}: {error}")
            continue
        if line_of.setdefault(record.path, number) != number:
            faults.append(
                f"{table}, line {number}: {record.path} stands in line {line_of[record.path]}"
            )
            continue
        records.append(record)
        rows.append(row)
    return _with_positions(records, rows), faults


def _read_rows(storage: Storage, table: str) -> list[dict[str, str]]:
    try:
        # With or without the byte-order mark that spreadsheets put in front.
        text = storage.read(table, MAX_TABLE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"`{table}` must be UTF-8 text. Received: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns, rows = reader.fieldnames or [], list(reader)
    except csv.Error as error:  # a field of 131,072 characters, a quote that never ends
        raise DataError(f"`{table}` must be a CSV file. Received: {error}") from error
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        raise DataError(
            f"`{table}` must have the columns `path` and `label`. Received: {', '.join(columns)}"
        )
    # Cells beyond the header's come under the key None, missing ones as None.
    return [{k: (v or "").strip() for k, v in row.items() if k} for row in rows]


def _read_row(row: dict[str, str], folder: str, storage: Storage) -> SliceRecord:
    def stored(column: str) -> str | None:
        # Tables written on Windows name their files with backslashes.
        cell = row.get(column, "").replace("\\", "/")
        if not cell:
            return None
        name = str(PurePosixPath(folder + cell))
        if name not in storage:
            raise DataError(f"`{column}` must name a file. Received: {cell}")
        return name

    path = stored("path")
    if path is None:
        raise DataError("`path` must not be empty")
    parsed = parse_name(path)
    own = str(PurePosixPath(path).with_suffix(""))
    volume = parsed.volume_id if parsed else own
    # Where no patient is named, a scan is one: its slices must not part.
    patient = row.get("patient_id") or row.get("volume_id") or volume
    return SliceRecord(
        path=path,
        label=label_index(row["label"]) if row["label"] else None,
        split=_read_split(row.get("split", "")),
        patient_id=patient,
        volume_id=row.get("volume_id") or patient,
        slice_id=row.get("slice_id") or (parsed.slice_id if parsed else own),
        variant=parsed.variant if parsed else "",
        mask_path=stored("mask_path"),
        twin_path=stored("twin_path"),
        width_mm=float(row["width_mm"]) if row.get("width_mm") else None,
        level=row.get("level") or None,
    )


def _read_split(cell: str) -> str | None:
    if cell and cell.lower() not in SPLIT_NAMES:
        raise DataError(f"`split` must be train, validation or test. Received: {cell}")
    return SPLIT_NAMES[cell.lower()] if cell else None


def _with_positions(records: list[SliceRecord], rows: list[dict[str, str]]) -> list[SliceRecord]:
    """Return the records with `position`, 0..1: the slice's rank by `slice_index` in its volume."""
    cells = [row.get("slice_index", "") for row in rows]
    numbers = [int(cell) if _WHOLE_NUMBER.fullmatch(cell) else None for cell in cells]
    found: dict[str, set[int]] = {}
    for record, number in zip(records, numbers, strict=True):
        if number is not None:
            found.setdefault(record.volume_id, set()).add(number)
    ranks = {
        volume: {number: rank for rank, number in enumerate(sorted(known))}
        for volume, known in found.items()
    }
    placed = []
    for record, number in zip(records, numbers, strict=True):
        rank = ranks.get(record.volume_id, {})
        if number is not None and len(rank) > 1:
            record = replace(record, position=rank[number] / (len(rank) - 1))
        placed.append(record)
    return placed
