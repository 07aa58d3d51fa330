"""Features of each slice: vectors for the shortcut scores and a signature to search for copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cspine.core.progress import progress
from cspine.data.audit.descriptors import Signature, describe, resize
from cspine.data.audit.shortcuts import Shortcut, score_shortcut
from cspine.data.layouts.filenames import find_slice_number
from cspine.data.records import Dataset, SliceRecord
from cspine.imaging.decode import decode_image

_READERS = 2
_THUMBNAIL = 16
_BINS = 32
# A kind of file (such as screenshots, scout views or files of another export) is rare if less than
# this share of the files is of that kind.
_ODD_SHARE = 0.05


@dataclass(frozen=True)
class ImageFeatures:
    """The features of one image.

    Fields:
        side: the smaller side in pixels.
        vectors: the shortcut features by name, each a float64 vector.
        signature: used to find copies; None if pixels are not compared.
    """

    side: int
    vectors: Mapping[str, np.ndarray]
    signature: Signature | None


def extract_features(
    dataset: Dataset, records: Sequence[SliceRecord], indices: list[int], with_signatures: bool
) -> dict[int, ImageFeatures]:
    """Return the features of the records at `indices`, by index.

    Args:
        dataset: holds the files.
        records: all records of the data set.
        indices: which of the records to read.
        with_signatures: also make signatures, which takes longer than all other features.
    """

    def extract(index: int) -> ImageFeatures:
        grey = decode_image(dataset.read_bytes(records[index].path)).grey
        histogram = np.bincount(grey.ravel() // (256 // _BINS), minlength=_BINS)
        vectors = {
            "thumbnail": resize(grey, _THUMBNAIL).ravel().astype(np.float64),
            "histogram": histogram / grey.size,
            "size": np.array(grey.shape, np.float64),
        }
        return ImageFeatures(min(grey.shape), vectors, describe(grey) if with_signatures else None)

    with ThreadPoolExecutor(_READERS) as pool:
        found = progress(pool.map(extract, indices), "measuring", len(indices))
        return dict(zip(indices, found, strict=True))


def score_shortcuts(
    records: Sequence[SliceRecord],
    rows: list[int],
    features: Mapping[int, ImageFeatures],
    groups: Mapping[str, tuple[str, str]],
) -> dict[str, Shortcut | None]:
    """Return the score of each feature over one labelled image per slice.

    Args:
        records: all records of the data set.
        rows: the index of one record per slice.
        features: index → features; empty if only a list of file names is audited, without images.
        groups: path → (slice id, volume id).
    """
    rows = [i for i in rows if records[i].label is not None and (not features or i in features)]
    labels = np.array([records[i].label for i in rows], np.int64)
    volumes = np.array([groups[records[i].path][1] for i in rows], str)
    numbers = [_slice_number(records[i]) for i in rows]
    # Slice numbers are used only if all are known: the score would otherwise measure which slices
    # have a number.
    columns = {
        "slice number": [] if None in numbers else [np.array([number]) for number in numbers]
    }
    for name in ("thumbnail", "histogram", "size") if features else ():
        columns[name] = [features[i].vectors[name] for i in rows]
    return {
        name: score_shortcut(np.stack(values), labels, volumes) if values else None
        for name, values in columns.items()
    }


def _slice_number(record: SliceRecord) -> float | None:
    """Return the slice's position from the table, else its number from the name, else None."""
    if record.position is not None:
        return record.position
    number = find_slice_number(record.path)
    return None if number is None else float(number)


def describe_kinds(records: Sequence[SliceRecord]) -> tuple[dict[str, int], list[str]]:
    """Return how many files are of each kind, and the paths of the files of a rare kind."""
    counts = Counter(record.kind for record in records if record.kind)
    rare = {kind for kind, count in counts.items() if count < _ODD_SHARE * len(records)}
    return dict(counts.most_common()), [r.path for r in records if r.kind in rare]
