"""A phantom set in RSNA 2022's layout, one of whose fractured studies has no boxes."""

from __future__ import annotations

from pathlib import Path

from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.dicom_layouts import write_rsna

CONFIG = PhantomConfig(patients=6, slices_per_patient=6, seed=3)


def write_unboxed(folder: Path) -> Path:
    """Write the set into `folder`, without the boxes of its first fractured study."""
    written = write_rsna(folder, CONFIG)
    boxes = written / "train_bounding_boxes.csv"
    heading, *rows = boxes.read_text().splitlines()
    uid = rows[0].split(",")[0]
    boxes.write_text("\n".join([heading, *(row for row in rows if not row.startswith(uid))]))
    return written
