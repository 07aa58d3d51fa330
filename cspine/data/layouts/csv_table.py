"""Reader of CSV tables of slices: the phantom's `slices.csv`, or a user's own list of images.

Columns: `path` and `label` are needed; `split`, `patient_id`, `volume_id`, `slice_id`,
`mask_path`, `twin_path`, `width_mm`, `level` and `slice_index` are used if present. Other columns
are ignored. An empty cell means that the value is not known. Paths are relative to the CSV's
folder.
"""

from __future__ import annotations

import csv
import io
import posixpath
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
    records: list[SliceRecord] = []
    numbers: list[int | None] = []
    faults: list[str] = []
    line_of: dict[str, int] = {}
    given: set[str] = set()  # paths whose row names the patient
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
        if row.get("patient_id"):
            given.add(record.path)
        cell = row.get("slice_index", "")
        records.append(record)
        numbers.append(int(cell) if _WHOLE_NUMBER.fullmatch(cell) else None)
    numbered = list(zip(_scope_ids(records, given), numbers, strict=True))
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
        return _find_file(cell, column, folder, storage) if cell else None

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


def _find_file(cell: str, column: str, folder: PurePosixPath, storage: Storage) -> str:
    """Return the stored name of the file that a cell names.

    Raises:
        DataError: the cell leads out of the CSV's folder, or to no file.
    """
    place = posixpath.normpath(cell)
    # An absolute path is read if it leads into the set.
    if posixpath.isabs(place):
        place = posixpath.relpath(place, (storage.root.absolute() / folder).as_posix())
    if place.startswith("../") or re.match(r"[A-Za-z]:/", place):
        raise DataError(
            f"`{column}` must lead to a file in the CSV's folder or below. Received: {cell}. "
            "Move the CSV to a folder that holds all its files"
        )
    name = storage.find(posixpath.normpath(str(folder / place)))
    if name is None:
        raise DataError(
            f"`{column}` must name an existing file, relative to the CSV's folder. Received: {cell}"
        )
    return name


def _read_split(cell: str) -> str | None:
    split = SPLIT_NAMES.get(cell.lower())
    if cell and split is None:
        raise DataError(f"`split` must be train, validation or test. Received: {cell}")
    return split


def _scope_ids(records: list[SliceRecord], given: set[str]) -> list[SliceRecord]:
    """Return the records; an id that several given patients use counts for each of them.

    Numbers of series and slices often begin anew with every patient. The patient that a table names
    is never overruled by them.
    """
    patients: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.path in given:
            patients[f"volume {record.volume_id}"].add(record.patient_id)
            patients[f"slice {record.slice_id}"].add(record.patient_id)

    def scope(record: SliceRecord, kind: str, name: str) -> str:
        is_shared = record.path in given and len(patients[f"{kind} {name}"]) > 1
        return f"{record.patient_id}/{name}" if is_shared else name

    return [
        replace(
            record,
            volume_id=scope(record, "volume", record.volume_id),
            slice_id=scope(record, "slice", record.slice_id),
        )
        for record in records
    ]


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
