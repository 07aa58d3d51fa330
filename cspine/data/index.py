"""Index a data set: find its layout, make a record of each image and report all faults at once.

Each image is read once, to compute its SHA-256 and to check that its pixels can be decoded.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cspine.core.errors import CspineError, DataError
from cspine.core.labels import CLASS_NAMES
from cspine.core.progress import progress
from cspine.core.text import count_noun, escape_name
from cspine.data.audit.unused_files import (
    describe_files,
    find_blank_faults,
    is_blank,
    leave_out_blank,
)
from cspine.data.domain import PHANTOM_FILE
from cspine.data.layouts.class_folders import find_empty_classes, find_table, index_tree
from cspine.data.layouts.csv_table import index_table
from cspine.data.layouts.rsna import find_rsna, index_rsna
from cspine.data.records import Dataset, SliceRecord
from cspine.data.storage import FolderStorage, Storage, open_storage
from cspine.imaging.decode import decode_image

log = logging.getLogger(__name__)
READERS = 2  # threads, which run in parallel because decoding releases the interpreter's lock
_SHOWN = 20
_TREES = ("kaggle", "tree", "flat")


@dataclass(frozen=True)
class _Checked:
    """The result of reading one file: what the decoder says of it, or a fault."""

    sha256: str = ""
    kind: str = ""
    patient_id: str | None = None
    series_uid: str | None = None
    instance_uid: str | None = None
    fault: str = ""
    refusal: str | None = None
    warnings: tuple[str, ...] = ()
    is_blank: bool = False
    is_synthetic: bool = False


def index_dataset(
    source: Path, skip_unreadable: bool = False, accept_blank: bool = False
) -> Dataset:
    """Return the data set at `source`: a folder, a ZIP (read without unpacking) or a CSV file.

    Args:
        source: the folder, ZIP or CSV file.
        skip_unreadable: leave out files that cannot be read, and log their names.
        accept_blank: keep images that are nearly black or white. Otherwise they are left out, and
            many of them (see `audit/blank_images.py`) are a fault.

    Raises:
        DataError: the source does not exist or has an unknown layout, a class is empty, files are
            unreadable, many are blank, or a slice is in two classes. One message names all faults
            found.
    """
    listed, found = _find_records(source)
    dataset = _read_all(listed)
    # All faults are reported together, so that a user need not run the command once per fault.
    faults = _shorten(found)
    if dataset.unreadable and not skip_unreadable:
        named = [f"{path} ({reason})" for path, reason in sorted(dataset.unreadable.items())]
        advice = "`--skip-unreadable` leaves them out"
        faults.append(f"{count_noun(len(named), 'unreadable file')} ({advice}): {_list(named)}")
    # `--skip-unreadable` does not skip these slices: they can be read, but one label is wrong.
    conflicts = [" and ".join(paths) for paths in find_label_conflicts(dataset.records)]
    if conflicts:
        faults.append(f"{count_noun(len(conflicts), 'slice')} in both classes: {_list(conflicts)}")
    blank_faults = [] if accept_blank else find_blank_faults(dataset)
    faults += blank_faults
    if not (accept_blank or blank_faults):
        dataset = leave_out_blank(dataset)
    missing = _find_missing(dataset)
    if missing:
        faults.append(f"no readable image in {' and '.join(missing)}")
    _refuse(faults)
    for path, reason in sorted(dataset.unreadable.items()):
        log.warning("Left out %s: %s", path, reason)
    for line in describe_files(dataset):
        log.warning("%s", line)
    return dataset


def scan_dataset(source: Path) -> Dataset:
    """Return the data set at `source` including its faults, which the audit describes.

    Unreadable files are in `unreadable`, not in `records`.

    Raises:
        DataError: the source does not exist, its layout is unknown, or layout or table is faulty.
    """
    listed, faults = _find_records(source)
    # Faults of the layout are refused before every file is read, which takes long.
    _refuse(_shorten(faults))
    return _read_all(listed)


def _refuse(faults: list[str]) -> None:
    if faults:
        raise DataError(f"`data` must have no faults. Received: {'; '.join(faults)}")


def _read_all(listed: Dataset) -> Dataset:
    """Read each file once; return the data set with hashes, kinds, marks and unreadable files."""
    files = [*listed.records, *listed.unboxed_records]
    twins = [record.twin_path for record in files if record.twin_path is not None]
    checked = _check_files(listed.storage, [*(record.path for record in files), *twins])

    def keep(records: Iterable[SliceRecord]) -> tuple[SliceRecord, ...]:
        in_order = sorted(records, key=lambda record: record.path)
        readable = [r for r in in_order if not (checked[r.path].fault or checked[r.path].refusal)]
        return tuple(_apply_check(record, checked, listed.layout) for record in readable)

    records = keep(listed.records)
    return replace(
        listed,
        records=records,
        fingerprint=fingerprint(records),
        unreadable={
            escape_name(path): check.fault for path, check in checked.items() if check.fault
        },
        left_out={
            **listed.left_out,
            **{path: check.refusal for path, check in checked.items() if check.refusal},
        },
        warnings=_sort_warnings(checked),
        blank=tuple(record.path for record in records if checked[record.path].is_blank),
        unboxed_records=keep(listed.unboxed_records),
    )


def _sort_warnings(checked: Mapping[str, _Checked]) -> dict[str, tuple[str, ...]]:
    """Return sentence → paths, the most frequent sentence first."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, check in checked.items():
        for sentence in check.warnings:
            found[sentence].append(path)
    in_order = sorted(found.items(), key=lambda item: -len(item[1]))
    return {sentence: tuple(paths) for sentence, paths in in_order}


def fingerprint(records: Iterable[SliceRecord]) -> str:
    """Return the hex SHA-256 over the path, label and content hash of each record, in order."""
    digest = hashlib.sha256()
    for record in records:
        # The separators ensure that two different sets never have the same text to hash.
        digest.update(f"{record.path}\0{record.label}\0{record.sha256}\n".encode())
    return digest.hexdigest()


def find_label_conflicts(records: Iterable[SliceRecord]) -> list[list[str]]:
    """Return, for each slice that is in two classes, one path from each class."""
    groups: dict[str, dict[int, str]] = defaultdict(dict)
    for record in records:
        # Equal bytes count as well as equal names: a renamed copy is the same slice.
        for group in (f"slice {record.slice_id}", f"bytes {record.sha256}"):
            if record.label is not None:
                groups[group].setdefault(record.label, record.path)
    pairs = {tuple(sorted(found.values())) for found in groups.values() if len(found) > 1}
    return [list(pair) for pair in sorted(pairs)]


def _find_records(source: Path) -> tuple[Dataset, list[str]]:
    """Return the data set as names or a table describe it, and its faults; no pixels are read."""
    left_out: dict[str, str] = {}
    if source.is_file() and source.suffix.lower() == ".csv":
        # The root is the folder of the CSV file, because paths in the file are relative to it.
        storage: Storage = FolderStorage(source.parent)
        layout, (records, faults) = "csv", index_table(storage, source.name)
        left_out = _find_unlisted(storage, records, source.name)
    else:
        storage = open_storage(source)
        # A table may describe the class folders beside it, so tables are looked for first.
        if (table := find_table(storage)) is not None:
            # Only the phantom writes this file beside its table.
            is_phantom = table.replace("slices.csv", PHANTOM_FILE) in storage
            layout = "phantom" if is_phantom else "csv"
            records, faults = index_table(storage, table)
            left_out = {} if is_phantom else _find_unlisted(storage, records, table)
        elif (prefix := find_rsna(storage)) is not None:
            return index_rsna(storage, prefix), []
        else:
            layout, records, faults, left_out = index_tree(storage)
    left_out = {**storage.left_out, **left_out}
    return Dataset(layout, tuple(records), storage, left_out=left_out), faults


def _find_unlisted(storage: Storage, records: Iterable[SliceRecord], table: str) -> dict[str, str]:
    """Return name → reason of the files that a table does not name."""
    used = {table}
    for record in records:
        used |= {record.path, record.mask_path or "", record.twin_path or ""}
    return {name: f"not in {table}" for name in storage.names if name not in used}


def _check_files(storage: Storage, paths: list[str]) -> dict[str, _Checked]:
    with ThreadPoolExecutor(READERS) as pool:
        # Results come in the order of `paths`, so that the same set gives the same result.
        results = pool.map(lambda path: _check_file(storage, path), paths)
        return dict(zip(paths, progress(results, "reading", len(paths)), strict=True))


def _check_file(storage: Storage, path: str) -> _Checked:
    try:
        path.encode()
        data = storage.read(path)
        decoded = decode_image(data)
    except UnicodeEncodeError:
        # No manifest, table or report could hold such a name.
        return _Checked(fault="its name must be UTF-8 text")
    except CspineError as error:
        return _Checked(fault=str(error))
    height, width = decoded.grey.shape
    return _Checked(
        sha256=hashlib.sha256(data).hexdigest(),
        kind=f"{decoded.kind} {width}×{height} {'colour' if decoded.is_colour else 'grey'}",
        patient_id=decoded.patient_id,
        series_uid=decoded.series_uid,
        instance_uid=decoded.instance_uid,
        refusal=decoded.refusal,
        warnings=decoded.warnings,
        is_blank=is_blank(decoded),
        is_synthetic=decoded.is_synthetic,
    )


def _apply_check(record: SliceRecord, checked: Mapping[str, _Checked], layout: str) -> SliceRecord:
    """Return the record with hash, kind and marks; in a DICOM tree, also patient and volume."""
    check, twin = checked[record.path], checked.get(record.twin_path or "")
    if twin is not None and twin.fault:
        # The twin is reported as unreadable, but the slice itself can be used.
        record, twin = replace(record, twin_path=None), None
    record = replace(
        record,
        sha256=check.sha256,
        kind=check.kind,
        is_synthetic=check.is_synthetic,
        twin_is_synthetic=twin is not None and twin.is_synthetic,
    )
    own = str(PurePosixPath(record.path).with_suffix(""))
    if check.instance_uid and record.slice_id == own:
        # No table and no published name says which slice it is, so the file's own UID does.
        record = replace(
            record,
            slice_id=check.instance_uid,
            volume_id=check.instance_uid if record.volume_id == own else record.volume_id,
            patient_id=check.instance_uid if record.patient_id == own else record.patient_id,
        )
    # Tables and RSNA's folders are more reliable than a file's own tags; a plain tree has neither.
    if layout in _TREES and (check.patient_id or check.series_uid):
        # If the file names no patient, the series is the coarsest known group.
        volume = check.series_uid or record.volume_id
        record = replace(record, volume_id=volume, patient_id=check.patient_id or volume)
    return record


def _find_missing(dataset: Dataset) -> list[str]:
    """Return the classes without a readable image; in a tree, the class folders without one."""
    if dataset.layout in _TREES and dataset.records:
        return find_empty_classes(dataset.records, dataset.storage.folders)
    labels = {record.label for record in dataset.records}
    return [f"class {name}" for label, name in enumerate(CLASS_NAMES) if label not in labels]


def _list(names: list[str]) -> str:
    return ", ".join(_shorten(names))


def _shorten(names: list[str]) -> list[str]:
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return names[:_SHOWN] + more
