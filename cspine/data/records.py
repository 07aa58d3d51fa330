"""What a data set is: one record a slice, and the set that holds them.

Knows no layout and no pixels; `index.py` makes these, everything else reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cspine.data.storage import Storage
from cspine.imaging.vertebra.finder import Box


@dataclass(frozen=True)
class SliceRecord:
    """One image file and what is known of it.

    Fields:
        path: relative to the data set's root, or the name inside the ZIP; `/` separators.
        label: `labels.NORMAL` or `labels.FRACTURE`; None where only the study has a label.
        split: `train`, `validation` or `test` as published, else None.
        patient_id, volume_id, slice_id: ever finer groups; a slice has one volume and patient.
        variant: how the file was derived from its slice; "" is the original.
        mask_path, twin_path: the fracture's mask, and the same slice without the fracture.
        boxes: fractures in source pixels.
        width_mm: the fracture's width. level: C1–C7. position: 0..1 within the study.
        sha256: hex digest of the file's bytes; "" where the file was not read.
        kind: format, size and mode, such as `png 512×512 grey`; "" where the file was not read.
        is_synthetic, twin_is_synthetic: whether the file, and its twin's, has the mark of
            `core/synthetic_mark.py`.
    """

    path: str
    label: int | None
    split: str | None
    patient_id: str
    volume_id: str
    slice_id: str
    variant: str = ""
    mask_path: str | None = None
    boxes: tuple[Box, ...] = ()
    twin_path: str | None = None
    width_mm: float | None = None
    level: str | None = None
    position: float | None = None
    sha256: str = ""
    kind: str = ""
    is_synthetic: bool = False
    twin_is_synthetic: bool = False


@dataclass(frozen=True)
class Dataset:
    """A data set on disk, indexed.

    Fields:
        root: the folder, ZIP or CSV's folder.
        layout: `kaggle`, `tree`, `flat`, `phantom`, `csv` or `rsna`.
        records: sorted by path.
        fingerprint: hex SHA-256 over every record's path, label and content.
        studies: patient_id → study label, where the layout has study labels.
        unreadable: path → reason, for the files left out because they cannot be read.
        unboxed_studies: patient_id of fractured studies of whose slices none has a label (RSNA).
        unboxed_records: slices of those, label None: for scores of whole studies, never in
            `records`, and so in no split, no training and no figure of slices.
        storage: where `read_bytes` reads.
    """

    root: Path
    layout: str
    records: tuple[SliceRecord, ...]
    fingerprint: str
    storage: Storage = field(compare=False, repr=False)
    studies: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    unboxed_studies: tuple[str, ...] = ()
    unboxed_records: tuple[SliceRecord, ...] = ()

    def read_bytes(self, path: str) -> bytes:
        """Return the bytes of one file of the set.

        Raises:
            DataError: there is no such file, or it is larger than an image may be.
        """
        return self.storage.read(path)

    def unboxed_with_labels(self) -> list[SliceRecord]:
        """Return `unboxed_records` with their study's label, which scores must have and nobody
        may read as a slice's."""
        return [replace(r, label=self.studies[r.patient_id]) for r in self.unboxed_records]

    def with_groups(self, groups: Mapping[str, tuple[str, str]]) -> Dataset:
        """Return this set with the slice and volume ids of an audit (path → slice, volume).

        A volume that the audit joined takes in the patients of its records, so that no patient
        is on two sides of a split afterwards.
        """
        given = [
            replace(record, slice_id=groups[record.path][0], volume_id=groups[record.path][1])
            if record.path in groups
            else record
            for record in self.records
        ]
        patients = _join_patients(given)
        records = tuple(replace(r, patient_id=patients[r.patient_id]) for r in given)
        return replace(self, records=records)


def _join_patients(records: Iterable[SliceRecord]) -> dict[str, str]:
    """Map each patient to the first patient that shares a volume or slice with it."""
    parent: dict[str, str] = {}

    def find(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            # Halving the path keeps later look-ups short.
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    names = []
    for record in records:
        # Told apart by kind: a slice, a volume and a patient may all have one name.
        patient = "patient " + record.patient_id
        names.append(record.patient_id)
        for other in ("volume " + record.volume_id, "slice " + record.slice_id):
            parent[find(other)] = find(patient)
    first: dict[str, str] = {}
    return {name: first.setdefault(find("patient " + name), name) for name in names}
