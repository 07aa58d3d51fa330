"""Reader of CSV tables of slices: the phantom's `slices.csv`, or a user's own list of images.

Columns: `path` and `label` are needed; `split`, `patient_id`, `volume_id`, `slice_id`,
`mask_path`, `twin_path`, `width_mm`, `level` and `slice_index` are used if present. Other columns
are ignored. An empty cell means that the value is not known. Paths are relative to the CSV's
folder.
"""

from __future__ import annotations

import csv
import io
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from cspine.core.errors import DataError
from cspine.core.labels import label_index
from cspine.data.layouts.class_folders import SPLIT_NAMES
from cspine.data.layouts.filenames import identify_file
from cspine.data.records import SliceRecord
from cspine.data.storage import MAX_TABLE_BYTES, Storage

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def index_table(storage: Storage, table: str) -> tuple[list[SliceRecord], list[str]]:
    """Return a record of each sound row of the CSV `table` in `storage`, and the faulty rows.

    A row is faulty if it names no file, if an earlier row names the same file, or if one of its
    cells is malformed.

    Raises:
        DataError: the table cannot be read or lacks a column.
    """
    folder = PurePosixPath(table).parent
    numbered: list[tuple[SliceRecord, int | None]] = []
    faults: list[str] = []
    line_of: dict[str, int] = {}
    # Line 1 holds the column names.
    for number, row in enumerate(read_rows(storage, table, ["path", "label"]), start=2):
        try:
            record = _read_row(row, folder, storage)
        except (DataError, ValueError) as error:
            faults.append(f"{table}, line {number}: {error}")
            continue
        if line_of.setdefault(record.path, number) != number:
            first = line_of[record.path]
            faults.append(f"{table}, line {number}: {record.path} is already in line {first}")
            continue
        cell = row.get("slice_index", "")
        numbered.append((record, int(cell) if _WHOLE_NUMBER.fullmatch(cell) else None))
    return _with_positions(numbered), faults


def read_rows(
    storage: Storage, table: str, columns: Sequence[str], errors: str = "strict"
) -> list[dict[str, str]]:
    """Return the rows of a CSV file, each as column name → cell without surrounding blanks.

    Args:
        columns: the columns that the table must have.
        errors: the handling of bytes that are not UTF-8, as in `bytes.decode`.

    Raises:
        DataError: the table cannot be read or lacks a column.
    """
    try:
        # `utf-8-sig` removes the byte-order mark that spreadsheets may put at the start.
        text = storage.read(table, MAX_TABLE_BYTES).decode("utf-8-sig", errors)
        reader = csv.DictReader(io.StringIO(text, newline=""))
        found, rows = reader.fieldnames or [], list(reader)
    except UnicodeDecodeError as error:
        raise DataError(f"`{table}` must be UTF-8 text. Received: {error}") from error
    except csv.Error as error:  # such as a field of 131,072 characters or an unclosed quote
        raise DataError(f"`{table}` must be a CSV file. Received: {error}") from error
    if not set(columns) <= set(found):
        needed = ", ".join(f"`{name}`" for name in columns)
        raise DataError(f"`{table}` must have the columns {needed}. Received: {', '.join(found)}")
    # DictReader gives surplus cells the key None and missing cells the value None.
    return [{k: (v or "").strip() for k, v in row.items() if k} for row in rows]


def _read_row(row: dict[str, str], folder: PurePosixPath, storage: Storage) -> SliceRecord:
    def stored(column: str) -> str | None:
        # Tables written on Windows name their files with backslashes.
        cell = row.get(column, "").replace("\\", "/")
        if not cell:
            return None
        name = str(folder / cell)
        if name not in storage:
            raise DataError(f"`{column}` must name an existing file. Received: {cell}")
        return name

    path = stored("path")
    if path is None:
        raise DataError("`path` must not be empty")
    name = identify_file(path)
    # A volume without a patient counts as a patient: its slices must stay on one side of a split.
    patient = row.get("patient_id") or row.get("volume_id") or name.volume_id
    return SliceRecord(
        path=path,
        label=label_index(row["label"]) if row["label"] else None,
        split=_read_split(row.get("split", "")),
        patient_id=patient,
        volume_id=row.get("volume_id") or patient,
        slice_id=row.get("slice_id") or name.slice_id,
        variant=name.variant,
        mask_path=stored("mask_path"),
        twin_path=stored("twin_path"),
        width_mm=float(row["width_mm"]) if row.get("width_mm") else None,
        level=row.get("level") or None,
    )


def _read_split(cell: str) -> str | None:
    split = SPLIT_NAMES.get(cell.lower())
    if cell and split is None:
        raise DataError(f"`split` must be train, validation or test. Received: {cell}")
    return split


def _with_positions(numbered: list[tuple[SliceRecord, int | None]]) -> list[SliceRecord]:
    """Return the records with `position`: the slice number's rank in its volume, as 0..1."""
    found: dict[str, set[int]] = defaultdict(set)
    for record, number in numbered:
        if number is not None:
            found[record.volume_id].add(number)
    ranked = {volume: sorted(numbers) for volume, numbers in found.items()}
    records = []
    for record, number in numbered:
        if number is not None and len(ranks := ranked[record.volume_id]) > 1:
            record = replace(record, position=bisect_left(ranks, number) / (len(ranks) - 1))
        records.append(record)
    return records
