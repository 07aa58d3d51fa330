"""Domain of a data set: whether its images are synthetic or real, by the mark in the files.

Folder names and notes beside the files cannot make a set synthetic, because the domain of the
training data decides which images a model may classify.
"""

from __future__ import annotations

from cspine.core.errors import DataError
from cspine.core.labels import REAL, SYNTHETIC
from cspine.core.text import count_noun
from cspine.data.records import Dataset

# The phantom generator writes this file beside the table of its sets.
PHANTOM_FILE = "phantom.json"
REWRITE = "write the phantom set again with `python -m cspine phantom DIR`"


def find_data_domain(dataset: Dataset) -> str:
    """Return `synthetic` if every image of `dataset` has the mark, `real` if none has it.

    Raises:
        DataError: only some images have the mark, or no image of a phantom set has it.
    """
    records = (*dataset.records, *dataset.unboxed_records)
    # Twins, which are slices with their fractures removed, count too: training uses them as normal
    # slices.
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
            f"{marked[0]}, and no mark in {unmarked}. Make one data set for each kind; if all "
            f"images are synthetic, {REWRITE}"
        )
    # Like the table of a set, the file may be at the root or one folder below it.
    if any(n in (PHANTOM_FILE, f"{n.split('/')[0]}/{PHANTOM_FILE}") for n in dataset.storage.names):
        raise DataError(
            "The images of a phantom set must have the mark of a synthetic image. Received: "
            f"{PHANTOM_FILE}, and {count_noun(len(files), 'image')} without the mark, written by "
            f"an older version or another program; {REWRITE}"
        )
    return REAL
