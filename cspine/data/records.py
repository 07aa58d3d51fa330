"""Data classes of a data set: `SliceRecord` for one image file, `Dataset` for all of them.

`index.py` makes them and the rest of the package reads them. They are the same for every layout
and hold no pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cspine.data.disjoint_sets import DisjointSets
from cspine.data.storage import Storage
from cspine.imaging.vertebra.finder import Box


@dataclass(frozen=True)
class SliceRecord:
    """One image file and what is known about it.

    Fields:
        path: relative to the data set's root, or the name inside the ZIP; `/` separators.
        label: `labels.NORMAL` or `labels.FRACTURE`; None if only the study has a label.
        split: `train`, `validation` or `test` as published, else None.
        patient_id, volume_id, slice_id: what the file shows, from coarse to fine; each slice has
            one volume and one patient.
        variant: how the file was derived from its slice; "" for the original.
        mask_path: the file with the fracture's mask.
        twin_path: the file of the twin, which is the same slice without its fracture.
        boxes: bounding boxes of the fractures, in source pixels.
        width_mm: the fracture's width in mm.
        level: the vertebra, C1–C7.
        position: place of the slice in its study, from 0 (lowest slice number) to 1.
        sha256: hex digest of the file's bytes; "" if the file was not read.
        kind: format, size and mode, such as `png 512×512 grey`; "" if the file was not read.
        is_synthetic, twin_is_synthetic: whether the file and the twin's file have the mark of a
            synthetic image (see `core/synthetic_mark.py`).
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

    @property
    def has_patient(self) -> bool:
        """Whether table, file or name says who the patient is; if not, the slice is one itself."""
        return self.patient_id != self.slice_id


@dataclass(frozen=True)
class Dataset:
    """An indexed data set on disk.

    Fields:
        layout: `kaggle`, `tree`, `flat`, `phantom`, `csv` or `rsna`.
        records: sorted by path.
        storage: the storage from which `read_bytes` reads files.
        fingerprint: hex SHA-256 over every record's path, label and content; "" until the files
            are read.
        studies: patient_id → study label, if the layout has study labels.
        unreadable: path → reason, for each file that was left out because it cannot be read.
        left_out: path → reason, for each other file that is not used: no image, a localiser, …
        warnings: sentence of the decoder → the paths of the images that it was said of.
        blank: the paths of images that are nearly black or white.
        unboxed_studies: patient_id of each fractured study without bounding boxes, so that none of
            its slices has a label (RSNA only).
        unboxed_records: slices of the unboxed studies, with label None. They are used only to
            score complete studies. They are never in `records`, and so never in a split, in
            training or in a figure about slices.
    """

    layout: str
    records: tuple[SliceRecord, ...]
    storage: Storage = field(compare=False, repr=False)
    fingerprint: str = ""
    studies: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    warnings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blank: tuple[str, ...] = ()
    unboxed_studies: tuple[str, ...] = ()
    unboxed_records: tuple[SliceRecord, ...] = ()

    @property
    def root(self) -> Path:
        """The folder or the ZIP file; for a CSV file, the folder that holds it."""
        return self.storage.root

    def read_bytes(self, path: str) -> bytes:
        """Return the bytes of one file of the set.

        Raises:
            DataError: `path` is not a file of the set, is larger than 32 MiB, or cannot be read.
        """
        return self.storage.read(path)

    def unboxed_with_labels(self) -> list[SliceRecord]:
        """Return `unboxed_records`, each with its study's label, for scores of complete studies.

        The study's label is not the slice's own label: most slices of a fractured study show no
        fracture.
        """
        return [replace(r, label=self.studies[r.patient_id]) for r in self.unboxed_records]

    def with_groups(
        self, groups: Mapping[str, tuple[str, str]], join_patients: bool = False
    ) -> Dataset:
        """Return this set with the slice and volume ids of an audit (path → slice, volume).

        Patients whose slices were joined stay different patients, if tables, files or names say who
        they are. A file of no known patient gets the patient of the slice that it was joined with.

        Args:
            groups: the ids by path; records without one keep theirs.
            join_patients: let known patients who share a slice or a volume become one.
        """
        given = [
            replace(record, slice_id=groups[record.path][0], volume_id=groups[record.path][1])
            if record.path in groups
            else record
            for record in self.records
        ]
        joined = link_patients(given)
        firsts: dict[str, str] = {}
        # Known patients come first, so that their names are those of files that joined them.
        for record in sorted(self.records, key=lambda record: not record.has_patient):
            firsts.setdefault(joined[record.patient_id], record.patient_id)
        records = tuple(
            replace(new, patient_id=firsts[joined[old.patient_id]])
            if join_patients or not old.has_patient
            else new
            for old, new in zip(self.records, given, strict=True)
        )
        return replace(self, records=records)


def link_patients(records: Sequence[SliceRecord]) -> dict[str, str]:
    """Map each patient to the first patient of its set; shared volumes or slices link patients."""
    sets = DisjointSets(len(records))
    for group in ("patient_id", "volume_id", "slice_id"):
        sets.join_equal(getattr(record, group) for record in records)
    return {r.patient_id: records[sets.find(i)].patient_id for i, r in enumerate(records)}
