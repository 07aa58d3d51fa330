"""Slices as arrays, ready for a network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cspine.core.text import count_slices
from cspine.data.records import SliceRecord


@dataclass(frozen=True)
class Samples:
    """Network-ready slices.

    Fields:
        images: uint8 (N, S, S), memory-mapped from the cache.
        labels: int64 (N,), `labels.NORMAL` or `labels.FRACTURE`.
        masks: uint8 (N, S // 8, S // 8), 1 where any pixel of the cell is fractured; None if a
            fracture among the records has neither mask nor box.
        groups, slice_ids: str (N,), patient and slice.
        widths_mm: float64 (N,), widths of the fractures in mm; NaN if unknown or no fracture.
        is_twin: bool (N,), a fractured slice's copy without the fracture; label NORMAL.
        left_out: how many records hold no vertebra to crop.
        image_ok: bool (N,), whether the whole image passed the check that serving makes of it;
            all true if no check was asked for.
        records: the record of each image; of a twin, that of the fractured slice.
        key: the cache entry's content hash.
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

    def __len__(self) -> int:
        return len(self.labels)

    def describe(self) -> str:
        """Return how many slices (copies count once) and patients there are, in words."""
        return count_slices(len(np.unique(self.slice_ids)), len(np.unique(self.groups)))

    def take(self, chosen: np.ndarray) -> Samples:
        """Return the samples where `chosen`, bool (N,), is set; pixels are copied into memory."""
        indices = np.flatnonzero(chosen)
        columns = ("images", "labels", "groups", "slice_ids", "widths_mm", "is_twin", "image_ok")
        return replace(
            self,
            **{name: getattr(self, name)[indices] for name in columns},
            masks=None if self.masks is None else self.masks[indices],
            records=tuple(self.records[i] for i in indices) if self.records else (),
            left_out=0,
        )
