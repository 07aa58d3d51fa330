"""Slices as arrays, ready for a network: what the pipeline gives and training takes."""

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
        masks: uint8 (N, S // 8, S // 8), 1 where any pixel of the cell is fractured; None unless
            every fracture among the records has a mask or box.
        groups, slice_ids: str (N,), patient and slice.
        widths_mm: float64 (N,), NaN where not known or no fracture.
        is_twin: bool (N,), a fractured slice's copy without the fracture; label NORMAL.
        left_out: how many records hold no vertebra to crop.
        image_ok: bool (N,), whether the whole picture passed the check that serving makes of it;
            all true where no check was asked for.
        records: the record of each image (of a twin: the fractured one's).
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
        """What a figure of these stands on, in words: slices (copies are one) and patients."""
        return count_slices(len(np.unique(self.slice_ids)), len(np.unique(self.groups)))

    def take(self, chosen: np.ndarray) -> Samples:
        """The samples where the mask `chosen`, bool (N,), is set; pixels are copied into memory."""
        indices = np.flatnonzero(chosen)
        return replace(
            self,
            images=self.images[indices],
            labels=self.labels[indices],
            masks=None if self.masks is None else self.masks[indices],
            groups=self.groups[indices],
            slice_ids=self.slice_ids[indices],
            widths_mm=self.widths_mm[indices],
            is_twin=self.is_twin[indices],
            image_ok=self.image_ok[indices],
            records=tuple(self.records[i] for i in indices) if self.records else (),
            left_out=0,
        )
