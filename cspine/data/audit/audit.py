"""The audit of a data set: which files are one slice, what leaks, what could be learnt instead.

Order of decision: names and tables that say the slice come first, then equal bytes, then pixels.
Two slices that names say are different slices of one volume are never joined by pixels.
Knows nothing of models.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cspine.core.labels import CLASS_NAMES
from cspine.data.audit.duplicates import NEIGHBOUR, Search, Sets
from cspine.data.audit.image_features import Look, describe_kinds, look_at, score_shortcuts
from cspine.data.audit.report import AuditReport, Leak
from cspine.data.layouts.class_folders import PUBLISHED_SPLITS, SPLIT_NAMES
from cspine.data.layouts.filenames import parse_name, variant_rank
from cspine.data.records import Dataset, SliceRecord

log = logging.getLogger(__name__)

# Layouts whose table is the truth: no pixel need be compared.
_TABLED = ("phantom", "rsna")


def audit_dataset(
    dataset: Dataset, ignore_names: bool = False, compare_pixels: bool | None = None
) -> AuditReport:
    """Return what names and pixels tell of `dataset`, which `scan_dataset` may have made.

    Args:
        ignore_names: group by pixels alone.
        compare_pixels: False to trust names and tables; by default only those of the phantom and
            RSNA layouts are trusted.
    """
    records = [_forget_name(r) if ignore_names else r for r in dataset.records]
    pixels = dataset.layout not in _TABLED if compare_pixels is None else compare_pixels
    # From the surest to the least: each step only joins what the last left apart.
    sets, exact = _join_by_name_and_bytes(records)
    volumes = _join_volumes(records, sets)
    shown = _choose_representatives(records, sets)
    looks = look_at(dataset, records, shown if pixels or ignore_names else [], shown)
    if pixels or ignore_names:
        _join_by_pixels(records, shown, looks, sets, volumes)
    report = _summarise(str(dataset.root), dataset.layout, records, sets, volumes, exact)
    # Once more: pixels may have made one slice of two.
    rows = _choose_representatives(records, sets)
    kinds, odd = describe_kinds(records)
    return replace(
        report,
        unboxed_studies=len(dataset.unboxed_studies),
        unreadable=dict(sorted(dataset.unreadable.items())),
        shortcuts=score_shortcuts(records, rows, looks, report.groups),
        compared_pixels=pixels or ignore_names,
        kinds=kinds,
        odd_files=odd,
    )


def audit_first(dataset: Dataset) -> tuple[Dataset, dict[str, Any]]:
    """Audit the data and tell three lines of it; return them joined by what pixels showed.

    The report comes as JSON values, without the long table of groups: the manifest holds those.
    """
    report = audit_dataset(dataset)
    for line in report.lines():
        log.info("%s", line)
    parts = report.to_dict()
    # One entry a file: with it the card would be as long as the data set.
    parts.pop("groups")
    parts["source"] = dataset.root.name
    # Before the split: copies that only pixels give away must not stand on two sides.
    if report.compared_pixels:
        dataset = dataset.with_groups(report.groups)
    return dataset, parts


def audit_names(names: Iterable[str]) -> AuditReport:
    """Return what a list of file names alone tells, e.g. `train/fracture/CSFDV1B10 (18).png`."""
    records = [_record_of_name(name.strip()) for name in names if name.strip()]
    sets, _ = _join_by_name_and_bytes(records)
    volumes = _join_volumes(records, sets)
    report = _summarise("names", "names", records, sets, volumes, [])
    rows = [i for i in _choose_representatives(records, sets) if records[i].label is not None]
    return replace(report, shortcuts=score_shortcuts(records, rows, {}, report.groups))


def _record_of_name(name: str) -> SliceRecord:
    # A list made on Windows.
    name = name.replace("\\", "/")
    parts = [part.lower() for part in name.split("/")[:-1]]
    label = next((CLASS_NAMES.index(part) for part in parts if part in CLASS_NAMES), None)
    parsed = parse_name(name)
    names = SPLIT_NAMES if parsed is None else PUBLISHED_SPLITS
    split = next((names[part] for part in parts if part in names), None)
    if parsed is None:
        return SliceRecord(name, label, split, name, name, name)
    volume = parsed.volume_id
    return SliceRecord(name, label, split, volume, volume, parsed.slice_id, parsed.variant)


def _forget_name(record: SliceRecord) -> SliceRecord:
    own = record.path
    return replace(record, slice_id=own, volume_id=own, patient_id=own, variant="")


def _is_named(record: SliceRecord) -> bool:
    """Whether a name or table says which volume the record belongs to."""
    return record.volume_id != record.slice_id


def _join_by_name_and_bytes(
    records: Sequence[SliceRecord],
) -> tuple[Sets, list[tuple[str, ...]]]:
    """Return the slices as sets of record indices, and the groups of paths with equal bytes."""
    sets = Sets(len(records))
    by_slice: dict[str, int] = {}
    by_bytes: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        sets.join(index, by_slice.setdefault(record.slice_id, index))
        if record.sha256:
            by_bytes[record.sha256].append(index)
    equal = [group for group in by_bytes.values() if len(group) > 1]
    for group in equal:
        # Equal bytes are one slice, whatever their names say.
        for index in group[1:]:
            sets.join(group[0], index)
    return sets, [tuple(records[i].path for i in group) for group in equal]


def _join_volumes(records: Sequence[SliceRecord], slices: Sets) -> Sets:
    """Return the volumes as sets of record indices; files of one slice are of one volume."""
    volumes = Sets(len(records))
    first: dict[str, int] = {}
    for index, record in enumerate(records):
        volumes.join(index, first.setdefault(record.volume_id, index))
        volumes.join(index, slices.find(index))
    return volumes


def _choose_representatives(records: Sequence[SliceRecord], sets: Sets) -> list[int]:
    """Return one record index a slice: the original, else the least derived variant."""
    best: dict[int, int] = {}
    for index, record in enumerate(records):
        other = records[best.setdefault(sets.find(index), index)]
        if variant_rank(record.variant, record.path) < variant_rank(other.variant, other.path):
            best[sets.find(index)] = index
    return sorted(best.values())


def _join_by_pixels(
    records: Sequence[SliceRecord],
    shown: list[int],
    looks: Mapping[int, Look],
    slices: Sets,
    volumes: Sets,
) -> None:
    """Join the slices that pixels say are one, and the volumes of neighbours with no names."""

    def may_join(one: int, other: int) -> bool:
        a, b = records[shown[one]], records[shown[other]]
        # Neighbours in a volume look alike; where names tell them apart, names are right.
        return not (_is_named(a) and _is_named(b) and a.volume_id == b.volume_id)

    signatures = [looks[i].signature for i in shown]
    search = Search(
        [s for s in signatures if s is not None],
        [looks[i].side for i in shown],
        may_join,
        Sets(len(shown)),
    )
    search.run()
    for position, index in enumerate(shown):
        first = shown[search.sets.find(position)]
        slices.join(first, index)
        volumes.join(first, index)
    # Unnamed neighbours are of one scan, and a scan must not stand on two sides of a split.
    for verdict in search.verdicts:
        pair = shown[verdict.first], shown[verdict.second]
        if verdict.score >= NEIGHBOUR and not any(_is_named(records[i]) for i in pair):
            volumes.join(*pair)


def _summarise(
    source: str,
    layout: str,
    records: Sequence[SliceRecord],
    slices: Sets,
    volumes: Sets,
    exact: list[tuple[str, ...]],
) -> AuditReport:
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(records)):
        members[slices.find(index)].append(index)
    # A set is named by its smallest index, see `Sets.join`.
    groups = {
        record.path: (
            records[slices.find(index)].slice_id,
            records[volumes.find(index)].volume_id,
        )
        for index, record in enumerate(records)
    }
    found = [[records[i] for i in indices] for indices in members.values()]
    return AuditReport(
        source=source,
        layout=layout,
        files=len(records),
        slices=len(found),
        volumes=len({volumes.find(index) for index in range(len(records))}),
        classes=_count_classes(found),
        exact_duplicates=exact,
        near_duplicates=[_paths(group) for group in found if _has_copies(group)],
        split_leaks=[leak for group in found for leak in _find_leak(group)],
        volume_leaks=_count_volume_leaks(records, volumes),
        label_conflicts=[_paths(g) for g in found if len({r.label for r in g} - {None}) > 1],
        groups=groups,
    )


def _paths(records: Iterable[SliceRecord]) -> tuple[str, ...]:
    return tuple(record.path for record in records)


def _has_copies(group: list[SliceRecord]) -> bool:
    """Whether the files of one slice are more than one, and not merely the same bytes."""
    # In a list of names there are no bytes to be equal.
    return len(group) > 1 and (not group[0].sha256 or len({r.sha256 for r in group}) > 1)


def _count_classes(found: list[list[SliceRecord]]) -> dict[str, tuple[int, int]]:
    counts = {}
    for label, name in enumerate(CLASS_NAMES):
        files = sum(record.label == label for group in found for record in group)
        # A slice that is in both classes counts in both.
        slices = sum(any(record.label == label for record in group) for group in found)
        counts[name] = (files, slices)
    return counts


def _find_leak(group: list[SliceRecord]) -> list[Leak]:
    sides: dict[str, list[str]] = defaultdict(list)
    for record in group:
        if record.split:
            sides[record.split].append(record.path)
    if len(sides) < 2:
        return []
    return [Leak(group[0].slice_id, {side: tuple(paths) for side, paths in sides.items()})]


def _count_volume_leaks(records: Sequence[SliceRecord], volumes: Sets) -> int:
    sides: dict[int, set[str]] = defaultdict(set)
    for index, record in enumerate(records):
        if record.split:
            sides[volumes.find(index)].add(record.split)
    return sum(len(found) > 1 for found in sides.values())
