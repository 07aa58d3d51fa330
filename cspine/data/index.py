"""The door to a data set: finds its layout, checks every file, and names all that is wrong at once.

Reads each file once: its SHA-256, and whether its pixels decode. Knows nothing of splits.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from cspine.core.errors import CspineError, DataError
from cspine.core.labels import CLASS_NAMES
from cspine.core.progress import progress
from cspine.data.layouts.class_folders import find_empty_classes, find_table, index_tree
from cspine.data.layouts.csv_table import index_table
from cspine.data.layouts.rsna import find_rsna, index_rsna
from cspine.data.records import Dataset, SliceRecord
from cspine.data.storage import FolderStorage, Storage, open_storage
from cspine.imaging.decode import decode_image
from cspine.imaging.decoded_image import DecodedImage

log = logging.getLogger(__name__)
READERS = 2  # threads; decoding releases the interpreter's lock
_SHOWN = 20
_TREES = ("kaggle", "tree", "flat")


@dataclass(frozen=True)
class _Checked:
    """What reading one file told: its hash, kind, DICOM groups and mark, or a fault."""

    sha256: str
    kind: str = ""
    patient_id: str | None = None
    series_uid: str | None = None
    fault: str = ""
    is_synthetic: bool = False


@dataclass(frozen=True)
class _Found:
    """What a layout or a table tells before any image is read, and what is wrong with it."""

    storage: Storage
    layout: str
    records: list[SliceRecord]
    faults: list[str]
    studies: Mapping[str, int] = field(default_factory=dict)
    unboxed: tuple[str, ...] = ()
    unboxed_records: list[SliceRecord] = field(default_factory=list)


def index_dataset(source: Path, skip_unreadable: bool = False) -> Dataset:
    """Return the data set at `source`: a folder, a ZIP (read without unpacking) or a CSV file.

    Args:
        skip_unreadable: leave out files that cannot be read, and log their names.

    Raises:
        DataError: no such folder, another layout, an empty class, unreadable files, or one slice
            in two classes. Everything that is wrong is named at once.
    """
    found = _find_records(source)
    dataset = _read_all(found)
    # Collected, and told together: who mends a set file by file has to run it once for each.
    faults = _shorten(found.faults)
    if dataset.unreadable and not skip_unreadable:
        named = [f"{path} ({reason})" for path, reason in sorted(dataset.unreadable.items())]
        advice = "`--skip-unreadable` goes on without them"
        faults.append(f"{len(named)} unreadable ({advice}): {_list(named)}")
    # Even with `--skip-unreadable`: such a slice can be read, and is wrong on one side.
    conflicts = [" and ".join(paths) for paths in find_label_conflicts(dataset.records)]
    if conflicts:
        faults.append(f"{len(conflicts)} slices in both classes: {_list(conflicts)}")
    missing = _find_missing(dataset)
    if missing:
        faults.append(f"no readable image in {' and '.join(missing)}")
    _refuse(faults)
    for path, reason in sorted(dataset.unreadable.items()):
        log.warning("Left out %s: %s", path, reason)
    return dataset


def scan_dataset(source: Path) -> Dataset:
    """Return the data set at `source` as it is, faults and all, for the audit to describe.

    Unreadable files are in `unreadable`, not in `records`.

    Raises:
        DataError: no such folder, a layout that cannot be told, or a faulty table.
    """
    found = _find_records(source)
    # Before every file is read.
    _refuse(_shorten(found.faults))
    return _read_all(found)


def _refuse(faults: list[str]) -> None:
    if faults:
        raise DataError(f"`data` must be sound. Received: {'; '.join(faults)}")


def _read_all(found: _Found) -> Dataset:
    """Return the data set of the records found, each of its files read once."""
    storage, layout = found.storage, found.layout
    records = (*found.records, *found.unboxed_records)
    twins = [r.twin_path for r in records if r.twin_path is not None]
    checked = _check_files(storage, [*(r.path for r in records), *twins])
    kept, unboxed = (
        tuple(
            _apply_check(record, checked, layout)
            for record in sorted(records, key=lambda record: record.path)
            if not checked[record.path].fault
        )
        for records in (found.records, found.unboxed_records)
    )
    unreadable = {
        # As it can be written down, where the name is no text.
        path.encode("utf-8", "backslashreplace").decode(): check.fault
        for path, check in checked.items()
        if check.fault
    }
    return Dataset(
        storage.root,
        layout,
        kept,
        fingerprint(kept),
        storage,
        found.studies,
        unreadable,
        found.unboxed,
        unboxed,
    )


def fingerprint(records: Iterable[SliceRecord]) -> str:
    """Return the hex SHA-256 over the path, label and content hash of each record, in order."""
    digest = hashlib.sha256()
    for record in records:
        # With separators that no path can hold, so that no two sets hash alike.
        digest.update(f"{record.path}\0{record.label}\0{record.sha256}\n".encode())
    return digest.hexdigest()


def find_label_conflicts(records: Iterable[SliceRecord]) -> list[list[str]]:
    """Return the paths of each slice, by name or equal bytes, that stands in two classes."""
    groups: dict[str, dict[int, str]] = {}
    for record in records:
        # By name and by bytes: a copy under another name is the same slice.
        if record.label is not None:
            groups.setdefault(f"slice {record.slice_id}", {}).setdefault(record.label, record.path)
            groups.setdefault(f"bytes {record.sha256}", {}).setdefault(record.label, record.path)
    pairs = {tuple(sorted(found.values())) for found in groups.values() if len(found) > 1}
    return [list(pair) for pair in sorted(pairs)]


def _find_records(source: Path) -> _Found:
    # The CSV's own folder is the root, so that its paths mean what they say.
    if source.is_file() and source.suffix.lower() == ".csv":
        folder = FolderStorage(source.parent)
        return _Found(folder, "csv", *index_table(folder, source.name))
    storage = open_storage(source)
    # From the most telling layout to the least: a tree may lie beside a table that describes it.
    table = find_table(storage)
    if table is not None:
        # The phantom's own note beside the table; a user's table has none.
        is_phantom = table.replace("slices.csv", "phantom.json") in storage
        layout = "phantom" if is_phantom else "csv"
        return _Found(storage, layout, *index_table(storage, table))
    prefix = find_rsna(storage)
    if prefix is not None:
        rsna = index_rsna(storage, prefix)
        return _Found(
            storage, "rsna", rsna.records, [], rsna.studies, rsna.unboxed, rsna.unboxed_records
        )
    return _Found(storage, *index_tree(storage))


def _check_files(storage: Storage, paths: list[str]) -> dict[str, _Checked]:
    with ThreadPoolExecutor(READERS) as pool:
        # In order, so the bar moves evenly and the same set reads the same way.
        results = pool.map(lambda path: _check_file(storage, path), paths)
        return dict(zip(paths, progress(results, "reading", len(paths)), strict=True))


def _check_file(storage: Storage, path: str) -> _Checked:
    try:
        path.encode()
        data = storage.read(path)
        decoded = decode_image(data)
    except UnicodeEncodeError:
        # It could stand in no manifest, table or report.
        return _Checked("", fault="its name must be UTF-8 text")
    except CspineError as error:
        return _Checked("", fault=str(error))
    digest = hashlib.sha256(data).hexdigest()
    return _Checked(
        digest,
        _kind(decoded),
        decoded.patient_id,
        decoded.series_uid,
        is_synthetic=decoded.is_synthetic,
    )


def _kind(decoded: DecodedImage) -> str:
    height, width = decoded.grey.shape
    return f"{decoded.kind} {width}×{height} {'colour' if decoded.is_colour else 'grey'}"


def _apply_check(record: SliceRecord, checked: Mapping[str, _Checked], layout: str) -> SliceRecord:
    """Return the record with its hash, kind, marks and, in a tree of DICOM files, groups."""
    check, twin = checked[record.path], checked.get(record.twin_path or "")
    if twin is not None and twin.fault:
        # Told as unreadable; the slice itself can be used.
        record, twin = replace(record, twin_path=None), None
    record = replace(
        record,
        sha256=check.sha256,
        kind=check.kind,
        is_synthetic=check.is_synthetic,
        twin_is_synthetic=twin is not None and twin.is_synthetic,
    )
    # Tables and RSNA's folders say more than a file's own tags; a plain tree says nothing.
    if layout in _TREES and (check.patient_id or check.series_uid):
        # Where no patient is named, the series is the coarsest group that is known.
        volume = check.series_uid or record.volume_id
        record = replace(record, volume_id=volume, patient_id=check.patient_id or volume)
    return record


def _find_missing(dataset: Dataset) -> list[str]:
    """Return the classes without a readable image; in a tree, those of every split's folder."""
    if dataset.layout in _TREES and dataset.records:
        return find_empty_classes(dataset.records, dataset.storage.folders)
    labels = {record.label for record in dataset.records}
    return [f"class {name}" for label, name in enumerate(CLASS_NAMES) if label not in labels]


def _list(names: list[str]) -> str:
    return ", ".join(_shorten(names))


def _shorten(names: list[str]) -> list[str]:
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return names[:_SHOWN] + more
