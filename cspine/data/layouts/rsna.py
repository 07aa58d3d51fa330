"""Reader of the RSNA 2022 Cervical Spine Fracture Detection data, which also samples its slices.

`train.csv` labels studies, `train_bounding_boxes.csv` gives bounding boxes of fractures on some
slices, and `train_images/<folder>/<n>.dcm` holds the slices. If the name of a folder and the
StudyInstanceUID inside its files differ, the UID is right. Slices get labels by these rules:

- Fracture: a slice in a boxed range, which is a run of slice numbers with boxes and with gaps of at
  most MAX_GAP. A slice in a gap takes the boxes of the nearest slice that has boxes.
- Normal: a slice of a study without a fracture, or one at least FAR slices from every box.
- All other slices are left out. A fractured study without boxes ("unboxed") has only a study label.

A random sample of slices is then taken from each study and each tenth of the study's length. Each
tenth gets equally many slices of both classes, so that the height of a slice does not predict its
label. Unboxed studies are sampled too, without slice labels: in each tenth, the same share of their
slices is taken as of the normal slices. No pixels are read.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np

from cspine.core.errors import DataError, ImageError
from cspine.core.labels import FRACTURE, NORMAL
from cspine.data.layouts.csv_table import read_rows
from cspine.data.records import Dataset, SliceRecord
from cspine.data.storage import Storage
from cspine.imaging.decoded_image import Limits
from cspine.imaging.dicom.decode import read_study_uid
from cspine.imaging.vertebra.finder import Box

STUDIES, BOXES, IMAGES = "train.csv", "train_bounding_boxes.csv", "train_images/"
# Differences of slice numbers.
MAX_GAP = 3  # largest gap in a boxed range
FAR = 10  # least distance of a normal slice from every box, in a fractured study
DECILES = 10
# Neighbouring slices are nearly equal, so more of them would only add to the weight of a study.
PER_STUDY_AND_DECILE = 4
_SEED = 0


@dataclass
class _Study:
    """One study: slice number → path, and slice number → boxes."""

    paths: dict[int, str] = field(default_factory=dict)
    boxes: dict[int, list[Box]] = field(default_factory=dict)


def find_rsna(storage: Storage) -> str | None:
    """Return the folder (ending in `/`, or empty) that holds RSNA 2022's layout, or None."""
    tables = [name for name in storage.names if f"/{name}".endswith(f"/{STUDIES}")]
    for prefix in (table.removesuffix(STUDIES) for table in tables):
        if any(name.startswith(prefix + IMAGES) for name in storage.names):
            return prefix
    return None


def index_rsna(storage: Storage, prefix: str) -> Dataset:
    """Return the data set of the sampled slices, with the label of every listed study.

    Args:
        prefix: the folder that `find_rsna` found.

    Raises:
        DataError: a table is missing, lacks a column or holds a malformed value, or no slice can
            be taken because no tenth of the neck has slices of both classes.
    """
    labels = _read_labels(storage, prefix + STUDIES)
    studies = _find_studies(storage, prefix + IMAGES)
    _read_boxes(storage, prefix + BOXES, studies)
    pool: dict[tuple[int, int], list[SliceRecord]] = defaultdict(list)
    # The seed is fixed, so that the slices of the set do not depend on the seed of the run.
    rng = np.random.default_rng(_SEED)
    unboxed = tuple(uid for uid in sorted(studies) if _is_unboxed(studies[uid], labels.get(uid)))
    # The studies are sorted, so that the sample does not depend on the order of folders.
    for uid in sorted(studies):
        if uid in labels and uid not in unboxed:
            for key, records in _draw_study(uid, studies[uid], labels[uid], rng).items():
                pool[key] += records
    drawn = _match_deciles(pool, rng)
    if not drawn:
        raise DataError(
            "`data` must hold fractured and normal slices of the same tenth of the neck. Received: "
            f"none in {len(studies)} studies; the table lists {sum(labels.values())} as fractured"
        )
    # Unboxed studies are sampled last, so that they do not change the sample of the others. The
    # label NORMAL lets every slice be taken, as in a study without a fracture.
    unlabelled = [_draw_study(uid, studies[uid], NORMAL, rng) for uid in unboxed]
    return Dataset(
        layout="rsna",
        records=tuple(drawn),
        storage=storage,
        studies=labels,
        unboxed_studies=unboxed,
        unboxed_records=tuple(_match_unboxed(unlabelled, pool, drawn, rng)),
    )


def describe_unboxed(count: int) -> str:
    """Return the sentence about `count` fractured studies without boxes, "" if there are none."""
    if not count:
        return ""
    if count == 1:
        return "1 fractured study without boxes: only its study label is known."
    return f"{count} fractured studies without boxes: only their study labels are known."


def _read_table(storage: Storage, name: str, columns: list[str]) -> list[dict[str, str]]:
    if name not in storage:
        raise DataError(f"`{name}` must be beside `{IMAGES}`. Received: no such file")
    # A stray byte in a column that is not used must not stop the run.
    return read_rows(storage, name, columns, errors="replace")


def _read_labels(storage: Storage, name: str) -> dict[str, int]:
    labels = {}
    for row in _read_table(storage, name, ["StudyInstanceUID", "patient_overall"]):
        cell = row["patient_overall"]
        if cell not in ("0", "1"):
            raise DataError(f"`patient_overall` in `{name}` must be 0 or 1. Received: {cell}")
        labels[row["StudyInstanceUID"]] = FRACTURE if cell == "1" else NORMAL
    return labels


def _find_studies(storage: Storage, images: str) -> dict[str, _Study]:
    """Return the studies by the UID inside their files; folders with the same UID are one study."""
    folders: dict[str, dict[int, str]] = defaultdict(dict)
    for name in storage.names:
        path = PurePosixPath(name)
        if name.startswith(images) and path.suffix.lower() == ".dcm" and path.stem.isdigit():
            folders[str(path.parent)][int(path.stem)] = name
    studies: dict[str, _Study] = defaultdict(_Study)
    for folder, paths in sorted(folders.items()):
        # The name of the folder is used only if none of its files has a UID.
        uid = _read_uid(storage, list(paths.values())) or PurePosixPath(folder).name
        studies[uid].paths.update(paths)
    return dict(studies)


def _read_uid(storage: Storage, paths: list[str]) -> str | None:
    """Return the StudyInstanceUID (0020,000D) of the first file that has one, else None."""
    for path in paths:
        try:
            uid = read_study_uid(storage.read(path), Limits())
        except (ImageError, DataError):
            # Another file may have the UID; a damaged file is reported if its slice is sampled.
            continue
        if uid is not None:
            return uid
    return None


def _read_boxes(storage: Storage, name: str, studies: Mapping[str, _Study]) -> None:
    columns = ["x", "y", "width", "height", "slice_number"]
    for row in _read_table(storage, name, ["StudyInstanceUID", *columns]):
        study = studies.get(row["StudyInstanceUID"])
        try:
            # Integers are parsed as floats, because spreadsheets write 12 as 12.0.
            x, y, width, height, number = (float(row[column]) for column in columns)
            # Edges are rounded outwards, so that every pixel that the box touches is in it.
            box = Box(math.floor(x), math.floor(y), math.ceil(x + width), math.ceil(y + height))
            slice_number = int(number)
        # `int`, `floor` and `ceil` raise OverflowError for infinity.
        except (ValueError, OverflowError) as error:
            raise DataError(f"`{name}` must hold numbers. Received: {error}") from error
        if study is not None:
            study.boxes.setdefault(slice_number, []).append(box)


def _draw_study(
    uid: str, study: _Study, label: int, rng: np.random.Generator
) -> dict[tuple[int, int], list[SliceRecord]]:
    """Return (label, decile) → a sample of at most PER_STUDY_AND_DECILE records of one study."""
    first, last = min(study.paths), max(study.paths)
    ranges = find_ranges(sorted(study.boxes))
    found: dict[tuple[int, int], list[SliceRecord]] = defaultdict(list)
    for number, path in sorted(study.paths.items()):
        slice_label = label if label == NORMAL else label_slice(number, ranges)
        if slice_label is None:
            continue
        # The position depends on the number, so that missing slices do not shift the others.
        position = (number - first) / max(last - first, 1)
        boxes = nearest_boxes(study.boxes, number) if slice_label == FRACTURE else ()
        record = SliceRecord(
            path=path,
            label=slice_label,
            split=None,
            patient_id=uid,
            volume_id=uid,
            slice_id=f"{uid} ({number})",
            boxes=boxes,
            position=position,
        )
        found[slice_label, _decile(record)].append(record)
    return {key: _draw(records, PER_STUDY_AND_DECILE, rng) for key, records in found.items()}


def _decile(record: SliceRecord) -> int:
    """Return the tenth of its study, 0..9, in which a record's slice lies."""
    return min(int((record.position or 0.0) * DECILES), DECILES - 1)


def _is_unboxed(study: _Study, label: int | None) -> bool:
    """Return whether the study has a fracture but no boxes that say which slices show it."""
    return label == FRACTURE and not study.boxes


def find_ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the runs of boxed slice numbers as (first, last), including gaps up to MAX_GAP."""
    if not numbers:
        return []
    cuts = [pair for pair in pairwise(numbers) if pair[1] - pair[0] - 1 > MAX_GAP]
    starts = [numbers[0], *(after for _, after in cuts)]
    ends = [*(before for before, _ in cuts), numbers[-1]]
    return list(zip(starts, ends, strict=True))


def label_slice(number: int, ranges: list[tuple[int, int]]) -> int | None:
    """Return the label of a slice of a fractured study.

    The label is None if the slice is in no boxed range, but nearer than FAR to one.
    """
    distance = min(max(first - number, number - last, 0) for first, last in ranges)
    if distance == 0:
        return FRACTURE
    return NORMAL if distance >= FAR else None


def nearest_boxes(boxes: Mapping[int, list[Box]], number: int) -> tuple[Box, ...]:
    """Return the boxes of the boxed slice that is nearest to slice `number`."""
    # If two boxed slices are equally near, take the lower number, regardless of the table's order.
    return tuple(boxes[min(boxes, key=lambda boxed: (abs(boxed - number), boxed))])


def _draw(records: list[SliceRecord], count: int, rng: np.random.Generator) -> list[SliceRecord]:
    """Return `count` random records in their order, or all records if there are fewer."""
    if len(records) <= count:
        return records
    chosen = rng.choice(len(records), count, replace=False)
    return [records[i] for i in sorted(chosen)]


def _match_deciles(
    pool: Mapping[tuple[int, int], list[SliceRecord]], rng: np.random.Generator
) -> list[SliceRecord]:
    """Return equally many fractured and normal slices of every decile, as many as possible."""
    drawn = []
    # Without equal counts at every height, the level alone would tell the classes apart.
    for decile in range(DECILES):
        sides = [pool.get((label, decile), []) for label in (NORMAL, FRACTURE)]
        count = min(map(len, sides))
        for records in sides:
            drawn += _draw(records, count, rng)
    return drawn


def _match_unboxed(
    studies: list[dict[tuple[int, int], list[SliceRecord]]],
    pool: Mapping[tuple[int, int], list[SliceRecord]],
    drawn: list[SliceRecord],
    rng: np.random.Generator,
) -> list[SliceRecord]:
    """Return slices of unboxed studies, with label None.

    The slices are spread over the deciles as the sampled normal slices are.
    """
    kept = Counter(_decile(record) for record in drawn if record.label == NORMAL)
    found = []
    for (label, decile), records in (item for study in studies for item in study.items()):
        # This is the share of the decile's normal slices that was kept. With another share, the
        # heights of a study's slices would predict the study's label.
        share = kept[decile] / max(len(pool.get((label, decile), [])), 1)
        found += [replace(record, label=None) for record in records if rng.random() < share]
    return found
