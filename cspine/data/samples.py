"""Container of slices as arrays that a network can take."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cspine.core.text import count_slices
from cspine.data.records import SliceRecord


@dataclass(frozen=True)
class Samples:
    """Slices as network inputs, one row per image.

    Fields:
        images: uint8 (N, S, S), memory-mapped from the cache.
        labels: int64 (N,), `labels.NORMAL` or `labels.FRACTURE`.
        masks: uint8 (N, S // 8, S // 8), 1 if any pixel of the cell is fractured; None if no
            record has a fracture, or if a fracture has neither mask nor box.
        groups, slice_ids: str (N,), the patient and the slice of each image.
        widths_mm: float64 (N,), widths of the fractures in mm; NaN if the width is unknown or
            there is no fracture.
        is_twin: bool (N,), whether the image is a twin, which is a fractured slice's copy without
            the fracture; its label is NORMAL.
        left_out: how many images were left out because they show no vertebra to crop.
        image_ok: bool (N,), whether the complete image passed the check that serving makes; all
            true if no check was given.
        records: the record of each image; for a twin, the record of the fractured slice.
        key: the cache entry's content hash.
        selected_from, rows: the samples from which `take` selected these, and their rows there,
            int64 (N,); None if nothing was selected.
    """

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    groups: np.ndarray
    slice_ids: np.ndarray
    widths_mm: np.ndarray
    is_twin: np.ndarray
    left_out: int
    image_ok: np.ndarray
    records: tuple[SliceRecord, ...] = ()
    key: str = ""
    selected_from: Samples | None = None
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def describe(self) -> str:
        """Return the number of slices (copies count once) and of patients, in words."""
        return count_slices(len(np.unique(self.slice_ids)), len(np.unique(self.groups)))

    def take(self, chosen: np.ndarray) -> Samples:
        """Return the samples for which `chosen`, bool (N,), is true, with pixels in memory."""
        indices = np.flatnonzero(chosen)
        columns = ("images", "labels", "groups", "slice_ids", "widths_mm", "is_twin", "image_ok")
        return replace(
            self,
            **{name: getattr(self, name)[indices] for name in columns},
            masks=None if self.masks is None else self.masks[indices],
            records=tuple(self.records[i] for i in indices) if self.records else (),
            left_out=0,
            selected_from=self.selected_from or self,
            rows=indices if self.rows is None else self.rows[indices],
        )
