"""Files that are not used, and images to warn of: blank ones are found, and lines count them all.

A few images that are nearly black or white are mistakes of an export. Many mean that the set was
saved with the wrong window or bit depth, and a network would learn nothing or a shortcut from them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cspine.core.labels import CLASS_NAMES
from cspine.core.text import count_noun, escape_name
from cspine.data.records import Dataset
from cspine.imaging.decoded_image import DecodedImage
from cspine.imaging.image_files import describe_left_out
from cspine.imaging.png_jpeg import NEARLY_BLACK

# Grey levels between the 1st and the 99th percentile of an image with anything to see.
LEAST_SPREAD = 8
# The largest share of blank images that is left out without a word from the user.
MAX_SHARE = 0.01
BLANK = "nearly black or white"
_SHOWN = 5


def is_blank(image: DecodedImage) -> bool:
    """Return whether an image shows under `LEAST_SPREAD` levels, or only the low bits of 16."""
    shares = np.cumsum(np.bincount(image.grey.ravel(), minlength=256)) / image.grey.size
    low, high = np.searchsorted(shares, (0.01, 0.99))
    return NEARLY_BLACK in image.warnings or int(high - low) < LEAST_SPREAD


def find_blank_faults(dataset: Dataset) -> list[str]:
    """Return a fault if more than `MAX_SHARE` of the images, or all of a class, are blank."""
    blank = set(dataset.blank)
    by_class = {
        name: {record.path for record in dataset.records if record.label == label}
        for label, name in enumerate(CLASS_NAMES)
    }
    whole = [name for name, paths in by_class.items() if paths and paths <= blank]
    if len(blank) <= MAX_SHARE * len(dataset.records) and not whole:
        return []
    names = ", ".join(map(escape_name, sorted(blank)[:_SHOWN]))
    said = f", among them all of class {' and '.join(whole)}" if whole else ""
    return [
        f"{len(blank)} of {count_noun(len(dataset.records), 'image')} {BLANK}{said} "
        f"(`accept_blank = true` in a --config file keeps them): {names}"
    ]


def leave_out_blank(dataset: Dataset) -> Dataset:
    """Return the data set without its blank images, which are then among `left_out`."""
    blank = set(dataset.blank)
    return replace(
        dataset,
        records=tuple(record for record in dataset.records if record.path not in blank),
        left_out={**dataset.left_out, **dict.fromkeys(dataset.blank, BLANK)},
        blank=(),
    )


def describe_files(dataset: Dataset) -> list[str]:
    """Return lines that count the files left out by reason and the decoder's warnings by kind."""
    lines = [describe_left_out(dataset.left_out)] if dataset.left_out else []
    lines += [
        f"{sentence} ({count_noun(len(paths), 'image')}, such as {escape_name(paths[0])})"
        for sentence, paths in dataset.warnings.items()
    ]
    if dataset.blank:
        names = ", ".join(map(escape_name, dataset.blank[:_SHOWN]))
        lines.append(f"{count_noun(len(dataset.blank), 'image')} {BLANK}: {names}")
    return lines
