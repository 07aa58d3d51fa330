"""Domain of a data set: synthetic or real images, by the mark in the files.

The names of folders and notes beside the files are not used, because the domain of the training
data decides which images a model may classify.
"""

from __future__ import annotations

from cspine.core.errors import DataError
from cspine.core.labels import REAL, SYNTHETIC
from cspine.core.text import count_noun
from cspine.data.records import Dataset

# The phantom writes it beside a set's table.
PHANTOM_FILE = "phantom.json"
REWRITE = "write the phantom set again with `python -m cspine phantom DIR`"


def find_data_domain(dataset: Dataset) -> str:
    """Return `synthetic` if every image of `dataset` has the mark, `real` if none has.

    Raises:
        DataError: some images have it and others not, or a phantom set has none.
    """
    records = (*dataset.records, *dataset.unboxed_records)
    # Twins as well: they are training images, as normal slices.
    files = {record.path: record.is_synthetic for record in records}
    files |= {r.twin_path: r.twin_is_synthetic for r in records if r.twin_path is not None}
    marked = [path for path, is_synthetic in files.items() if is_synthetic]
    if len(marked) == len(files):
        return SYNTHETIC
    if marked:
        unmarked = next(path for path, is_synthetic in files.items() if not is_synthetic)
        raise DataError(
            "The images of `data` must be all synthetic or all real. Received: the mark of a "
            f"synthetic image in {len(marked)} of {count_noun(len(files), 'file')}, such as "
            f"{marked[0]}, and none in {unmarked}. Make a set of each kind; if all are synthetic, "
            f"{REWRITE}"
        )
    # At the root or in one folder below, as the table of a set.
    if any(n in (PHANTOM_FILE, f"{n.split('/')[0]}/{PHANTOM_FILE}") for n in dataset.storage.names):
        raise DataError(
            "The images of a phantom set must have the mark of a synthetic image. Received: "
            f"{PHANTOM_FILE} and {count_noun(len(files), 'image')} without it, as an older "
            f"version or another program wrote them; {REWRITE}"
        )
    return REAL
