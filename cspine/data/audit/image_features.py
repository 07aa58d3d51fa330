"""One look at each slice: the features of the shortcut scores, and its signature.

Knows nothing of which files are copies of which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cspine.core.progress import progress
from cspine.data.audit.descriptors import Signature, describe, resize
from cspine.data.audit.shortcuts import Shortcut, score_shortcut
from cspine.data.layouts.filenames import parse_name
from cspine.data.records import Dataset, SliceRecord
from cspine.imaging.decode import decode_image

_READERS = 2
_THUMBNAIL = 16
_BINS = 32
# One file in twenty of another kind is worth a look: a screenshot, a scout view, another export.
_ODD_SHARE = 0.05


@dataclass(frozen=True)
class Look:
    """What the audit keeps of one picture.

    `side` is the smaller side in pixels; `features` are the shortcut features by name, float64
    vectors; `signature` is for finding copies.
    """

    side: int
    features: Mapping[str, np.ndarray]
    signature: Signature | None


def look_at(
    dataset: Dataset, records: Sequence[SliceRecord], signed: list[int], shown: list[int]
) -> dict[int, Look]:
    """Return what each shown picture looks like; those in `signed` with a signature."""
    # A signature takes longest, and is needed only where pixels decide.
    wanted = set(signed)

    def look(index: int) -> Look:
        decoded = decode_image(dataset.read_bytes(records[index].path))
        height, width = decoded.grey.shape
        thumbnail = resize(decoded.grey, _THUMBNAIL)
        histogram = np.bincount(decoded.grey.ravel() // (256 // _BINS), minlength=_BINS)
        features = {
            "thumbnail": thumbnail.ravel().astype(np.float64),
            "histogram": histogram / decoded.grey.size,
            "size": np.array([height, width], np.float64),
        }
        signature = describe(decoded.grey) if index in wanted else None
        return Look(min(height, width), features, signature)

    with ThreadPoolExecutor(_READERS) as pool:
        looks = progress(pool.map(look, shown), "looking", len(shown))
        return dict(zip(shown, looks, strict=True))


def score_shortcuts(
    records: Sequence[SliceRecord],
    rows: list[int],
    looks: Mapping[int, Look],
    groups: Mapping[str, tuple[str, str]],
) -> dict[str, Shortcut | None]:
    """Return the score of each feature over one labelled picture a slice."""
    # Of names alone there are no looks, and every row counts.
    rows = [i for i in rows if records[i].label is not None and (not looks or i in looks)]
    labels = np.array([records[i].label for i in rows], np.int64)
    volumes = np.array([groups[records[i].path][1] for i in rows], str)
    columns: dict[str, list[np.ndarray]] = {}
    if looks:
        for name in ("thumbnail", "histogram", "size"):
            columns[name] = [looks[i].features[name] for i in rows]
    numbers = [_slice_number(records[i]) for i in rows]
    known = [np.array([number]) for number in numbers if number is not None]
    scores: dict[str, Shortcut | None] = {"slice number": None}
    # Known for all or not used: a mix would score who has a number.
    if len(known) == len(rows) > 0:
        columns["slice number"] = known
    for name, values in columns.items():
        scores[name] = score_shortcut(np.stack(values), labels, volumes) if values else None
    return scores


def _slice_number(record: SliceRecord) -> float | None:
    """Return where in its volume the slice lies, by the table, else by the name, else None."""
    if record.position is not None:
        return record.position
    parsed = parse_name(record.path)
    return float(parsed.slice_number) if parsed else None


def describe_kinds(records: Sequence[SliceRecord]) -> tuple[dict[str, int], list[str]]:
    """Return how many files are of each kind, and the paths of those of a rare kind."""
    counts = Counter(record.kind for record in records if record.kind)
    rare = {kind for kind, count in counts.items() if count < _ODD_SHARE * len(records)}
    return dict(counts.most_common()), [r.path for r in records if r.kind in rare]
