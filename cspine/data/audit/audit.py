"""Audit of a data set, which finds copies of a slice, leaks, label conflicts and shortcuts.

Files are joined to slices by names and tables first, then by equal bytes, then by pixels. If their
names say that two files are different slices of one volume, they are never joined by pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cspine.core.labels import CLASS_NAMES
from cspine.data.audit.duplicates import NEIGHBOUR, CopySearch
from cspine.data.audit.image_features import (
    ImageFeatures,
    describe_kinds,
    extract_features,
    score_shortcuts,
)
from cspine.data.audit.report import AuditReport, Leak
from cspine.data.audit.unused_files import describe_files
from cspine.data.disjoint_sets import DisjointSets
from cspine.data.layouts.class_folders import PUBLISHED_FOLDER, PUBLISHED_SPLITS, SPLIT_NAMES
from cspine.data.layouts.filenames import identify_file, parse_published, variant_rank
from cspine.data.records import Dataset, SliceRecord

log = logging.getLogger(__name__)

# Layouts whose table is reliable, so that no pixels need to be compared.
_TABLED = ("phantom", "rsna")


def audit_dataset(
    dataset: Dataset, ignore_names: bool = False, compare_pixels: bool | None = None
) -> AuditReport:
    """Return what the names and pixels of `dataset` show.

    Args:
        dataset: the data set, from `index_dataset` or `scan_dataset`.
        ignore_names: group by bytes and pixels only; pixels are then always compared.
        compare_pixels: False to trust names and tables. By default, pixels are compared except in
            the phantom and RSNA layouts, whose tables are trusted.
    """
    records = [_without_name(r) if ignore_names else r for r in dataset.records]
    pixels = dataset.layout not in _TABLED if compare_pixels is None else compare_pixels
    pixels = pixels or ignore_names
    # The most certain step comes first; each step only adds joins to those of the step before.
    slices, exact = _join_by_name_and_bytes(records)
    volumes = _join_volumes(records, slices)
    shown = _choose_representatives(records, slices)
    features = extract_features(dataset, records, shown, with_signatures=pixels)
    if pixels:
        _join_by_pixels(records, features, slices, volumes)
    report = _summarise(str(dataset.root), dataset.layout, records, slices, volumes, exact)
    # Representatives are chosen again, because the pixels may have joined two slices.
    rows = _choose_representatives(records, slices)
    kinds, odd = describe_kinds(records)
    return replace(
        report,
        unboxed_studies=len(dataset.unboxed_studies),
        unreadable=dict(sorted(dataset.unreadable.items())),
        unused=describe_files(dataset),
        shortcuts=score_shortcuts(records, rows, features, report.groups),
        compared_pixels=pixels,
        kinds=kinds,
        odd_files=odd,
    )


def audit_first(dataset: Dataset, join_patients: bool = False) -> tuple[Dataset, dict[str, Any]]:
    """Audit the data and log three lines; return the data set with copies joined, and the report.

    `join_patients` is that of `Dataset.with_groups`. The report consists of JSON values. It lacks
    the groups, which are in the manifest.
    """
    report = audit_dataset(dataset)
    for line in report.lines():
        log.info("%s", line)
    parts = report.to_dict()
    # The groups have one entry per file, which would make the model card as long as the data set.
    parts.pop("groups")
    parts["source"] = dataset.root.name
    # Copies are joined before the split, so that those found by pixels are not on two sides.
    if report.compared_pixels:
        dataset = dataset.with_groups(report.groups, join_patients)
    return dataset, parts


def audit_names(names: Iterable[str]) -> AuditReport:
    """Return what a list of file names such as `train/fracture/CSFDV1B10 (18).png` shows."""
    records = [_record_of_name(name.strip()) for name in names if name.strip()]
    slices, _ = _join_by_name_and_bytes(records)
    volumes = _join_volumes(records, slices)
    report = _summarise("names", "names", records, slices, volumes, [])
    rows = _choose_representatives(records, slices)
    return replace(report, shortcuts=score_shortcuts(records, rows, {}, report.groups))


def _record_of_name(name: str) -> SliceRecord:
    # A list made on Windows has backslashes.
    name = name.replace("\\", "/")
    parts = [part.lower() for part in name.split("/")[:-1]]
    parsed = parse_published(name, needs_prefix=PUBLISHED_FOLDER not in parts)
    splits = SPLIT_NAMES if parsed is None else PUBLISHED_SPLITS
    parsed = parsed or identify_file(name)
    return SliceRecord(
        path=name,
        label=next((CLASS_NAMES.index(part) for part in parts if part in CLASS_NAMES), None),
        split=next((splits[part] for part in parts if part in splits), None),
        patient_id=parsed.volume_id,
        volume_id=parsed.volume_id,
        slice_id=parsed.slice_id,
        variant=parsed.variant,
    )


def _without_name(record: SliceRecord) -> SliceRecord:
    own = record.path
    return replace(record, slice_id=own, volume_id=own, patient_id=own, variant="")


def _is_named(record: SliceRecord) -> bool:
    """Return whether a name or table says which volume the record belongs to."""
    return record.volume_id != record.slice_id


def _join_by_name_and_bytes(
    records: Sequence[SliceRecord],
) -> tuple[DisjointSets, list[tuple[str, ...]]]:
    """Return the slices as sets of record indices, and the groups of paths with equal bytes."""
    slices, equal = DisjointSets(len(records)), DisjointSets(len(records))
    slices.join_equal(record.slice_id for record in records)
    # A file that was not read has no hash and counts as different from all others.
    equal.join_equal(record.sha256 or index for index, record in enumerate(records))
    groups = [group for group in equal.groups() if len(group) > 1]
    for group in groups:
        # Files with equal bytes are one slice, even if their names disagree.
        for index in group[1:]:
            slices.join(group[0], index)
    return slices, [_paths(records[index] for index in group) for group in groups]


def _join_volumes(records: Sequence[SliceRecord], slices: DisjointSets) -> DisjointSets:
    """Return the volumes as sets of record indices; files of one slice are of one volume."""
    volumes = DisjointSets(len(records))
    volumes.join_equal(record.volume_id for record in records)
    _join_volumes_of_slices(records, slices, volumes)
    return volumes


def _join_volumes_of_slices(
    records: Sequence[SliceRecord], slices: DisjointSets, volumes: DisjointSets
) -> None:
    """Join, in place, the volumes of each slice's files, but none of two known patients."""
    for group in slices.groups():
        known = [index for index in group if records[index].has_patient]
        firsts: dict[str, int] = {}
        for index in known:
            volumes.join(firsts.setdefault(records[index].patient_id, index), index)
        # A file of no known patient belongs to the first file's patient.
        for index in group:
            if not records[index].has_patient:
                volumes.join((known or group)[0], index)


def _choose_representatives(records: Sequence[SliceRecord], slices: DisjointSets) -> list[int]:
    """Return one record index per slice: the original, else the least processed variant."""

    def rank(index: int) -> tuple[int, str, str]:
        return variant_rank(records[index].variant, records[index].path)

    return sorted(min(group, key=rank) for group in slices.groups())


def _join_by_pixels(
    records: Sequence[SliceRecord],
    features: Mapping[int, ImageFeatures],
    slices: DisjointSets,
    volumes: DisjointSets,
) -> None:
    """Join slices that are one by their pixels, and volumes of neighbouring slices without names.

    Args:
        records: all records of the data set.
        features: index of a record → features with a signature.
        slices: sets of record indices, which are joined in place.
        volumes: sets of record indices, which are joined in place.
    """
    shown = list(features)

    def may_join(one: int, other: int) -> bool:
        a, b = records[shown[one]], records[shown[other]]
        # Neighbouring slices of a volume look alike; if their names differ, the names are right.
        return not (_is_named(a) and _is_named(b) and a.volume_id == b.volume_id)

    signatures = [found.signature for found in features.values() if found.signature is not None]
    search = CopySearch(signatures, [found.side for found in features.values()], may_join)
    search.run()
    for position, index in enumerate(shown):
        first = shown[search.sets.find(position)]
        slices.join(first, index)
    _join_volumes_of_slices(records, slices, volumes)
    # Neighbouring slices without names are from one scan, which must stay on one side of a split.
    for found in search.comparisons:
        pair = shown[found.first], shown[found.second]
        if found.score >= NEIGHBOUR and not any(_is_named(records[index]) for index in pair):
            volumes.join(*pair)


def _summarise(
    source: str,
    layout: str,
    records: Sequence[SliceRecord],
    slices: DisjointSets,
    volumes: DisjointSets,
    exact: list[tuple[str, ...]],
) -> AuditReport:
    found = [[records[index] for index in group] for group in slices.groups()]
    scans = [[records[index] for index in group] for group in volumes.groups()]
    # A set takes its ids from the record with the smallest index.
    groups = {
        record.path: (records[slices.find(i)].slice_id, records[volumes.find(i)].volume_id)
        for i, record in enumerate(records)
    }
    return AuditReport(
        source=source,
        layout=layout,
        files=len(records),
        slices=len(found),
        volumes=len(scans),
        classes=_count_classes(found),
        exact_duplicates=exact,
        near_duplicates=[_paths(group) for group in found if _has_copies(group)],
        shared_slices=[_paths(g) for g in found if _count_patients(g) > 1],
        split_leaks=[
            Leak(group[0].slice_id, sides)
            for group in found
            if len(sides := _split_sides(group)) > 1
        ],
        volume_leaks=sum(len(_split_sides(scan)) > 1 for scan in scans),
        label_conflicts=[_paths(g) for g in found if len({r.label for r in g} - {None}) > 1],
        groups=groups,
    )


def _paths(records: Iterable[SliceRecord]) -> tuple[str, ...]:
    return tuple(record.path for record in records)


def _count_patients(group: list[SliceRecord]) -> int:
    """Return the number of known patients whose slice this is."""
    return len({record.patient_id for record in group if record.has_patient})


def _has_copies(group: list[SliceRecord]) -> bool:
    """Return whether a slice has several files whose bytes are not all equal."""
    # A list of names has no bytes to compare.
    return len(group) > 1 and (not group[0].sha256 or len({r.sha256 for r in group}) > 1)


def _count_classes(found: list[list[SliceRecord]]) -> dict[str, tuple[int, int]]:
    """Return class name → (files, slices); a slice that is in both classes counts in both."""
    labels = [[record.label for record in group] for group in found]
    return {
        name: (sum(group.count(label) for group in labels), sum(label in group for group in labels))
        for label, name in enumerate(CLASS_NAMES)
    }


def _split_sides(group: list[SliceRecord]) -> dict[str, tuple[str, ...]]:
    """Return published side → paths of the group on that side."""
    sides = dict.fromkeys(record.split for record in group if record.split)
    return {side: _paths(record for record in group if record.split == side) for side in sides}
