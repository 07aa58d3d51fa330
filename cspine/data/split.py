"""Divides a data set so that no patient, volume or slice stands on two sides.

A group is a patient, else a volume, else a slice: `records.py` gives every record all three, the
coarsest that is known first. Groups are drawn within strata (with a fracture, without), so every
side has both classes. From 40 groups on there are three sides: 15 % of the groups, at least 10,
each for validation and test. With fewer, a figure from one side would mean nothing: then
each group (or each of 5 group folds, 3 times, from 5 groups on) is left out in turn. Published
mode keeps the published sides, leaks and all, and says on how many slices they stand.

Knows nothing of pixels; near-duplicates come in by `Dataset.with_groups`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cspine.core.errors import ConfigError, DataError, SplitLeakError
from cspine.core.labels import FRACTURE
from cspine.core.text import count_noun, count_slices
from cspine.data.layouts.filenames import variant_rank
from cspine.data.records import Dataset, SliceRecord

Records = tuple[SliceRecord, ...]
SIDES = ("train", "validation", "test")
MIN_GROUPS_A_SIDE = 10
# With 40 groups, the fewest for three sides, 10 a side leave half to learn from.
HELD_OUT_SHARE = 0.15
# Repeats, since with few patients a figure depends on who happens to share a fold.
FOLDS, REPEATS = 5, 3
# The published run held out 760 of its 3,800 training files.
PUBLISHED_VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Fold:
    """One turn of leaving groups out: `held_out` is scored by a model trained on `train`."""

    name: str
    repeat: int
    train: Records
    held_out: Records


@dataclass(frozen=True)
class Split:
    """A data set's sides. With `folds`, `train` holds every record and the other two are empty.

    `manifest_sha256` is the hex SHA-256 of `manifest()`; `note` says in one sentence what the
    split is and what its figures stand on; `mode` is `grouped` or `published`.
    """

    train: Records
    validation: Records
    test: Records
    folds: tuple[Fold, ...] | None
    manifest_sha256: str
    note: str
    mode: str = "grouped"

    def manifest(self) -> str:
        """Return the split as CSV text: side, path, label, patient, slice and content hash."""
        return _write_manifest(self.train, self.validation, self.test, self.folds)

    def leaks(self) -> list[tuple[str, str, str]]:
        """Return (slice or patient id, side, side) of each group that stands on two sides."""
        return find_leaks({"train": self.train, "validation": self.validation, "test": self.test})


def split_dataset(dataset: Dataset, mode: str = "grouped", seed: int = 0) -> Split:
    """Return the sides of `dataset`. The same records, mode and seed give the same split.

    Args:
        mode: `grouped`: by patient, one variant a slice. `published`: the sides on disk with all
            variants; where only train and test are published, the first 20 % of each class's
            training files by name are validation, as Keras' `validation_split` takes them.

    Raises:
        ConfigError: `mode` is neither.
        DataError: too few groups to leave one out, or no published sides.
    """
    if mode not in ("grouped", "published"):
        raise ConfigError(f"`split` must be grouped or published. Received: {mode!r}")
    labelled = tuple(record for record in dataset.records if record.label is not None)
    if mode == "published":
        return _split_published(labelled)
    # Copies add nothing to a figure but weight: twenty of one slice are one slice.
    kept = keep_originals(labelled)
    if _count_groups(kept) >= 4 * MIN_GROUPS_A_SIDE:
        # Enough patients do not promise both classes on every side: few may have a fracture.
        split = _split_sides(kept, _stratify(kept), seed)
        if all(_has_both(side) for side in (split.train, split.validation, split.test)):
            return split
    return _split_folds(kept, seed)


def keep_originals(records: Iterable[SliceRecord]) -> Records:
    """Return one record a slice: its original if there is one, else the least derived variant."""
    best: dict[str, SliceRecord] = {}
    for record in records:
        other = best.setdefault(record.slice_id, record)
        if variant_rank(record.variant, record.path) < variant_rank(other.variant, other.path):
            best[record.slice_id] = record
    return tuple(sorted(best.values(), key=lambda record: record.path))


def find_leaks(sides: dict[str, Records]) -> list[tuple[str, str, str]]:
    """Return (group, one side, another side) for each patient, volume or slice on two sides."""
    seen: dict[str, str] = {}
    leaks: dict[str, tuple[str, str, str]] = {}
    for side, records in sides.items():
        for record in records:
            for group in _names(record):
                # Patients, volumes and slices alike: each is a way to know the answer already.
                if seen.setdefault(group, side) != side:
                    leaks.setdefault(group, (group, seen[group], side))
    return sorted(leaks.values())


def refuse_leaks(split: Split) -> None:
    """Raise SplitLeakError where a group of `split` stands on two sides.

    Raises:
        SplitLeakError: names up to five of them.
    """
    leaks = split.leaks()
    if leaks:
        shown = ", ".join(f"{group} in {one} and {two}" for group, one, two in leaks[:5])
        raise SplitLeakError(
            f"No group may stand on two sides of a split. Received: {len(leaks)}: {shown}"
        )


def _names(record: SliceRecord) -> tuple[str, str, str]:
    return (
        f"patient {record.patient_id}",
        f"volume {record.volume_id}",
        f"slice {record.slice_id}",
    )


def _stratify(records: Records) -> list[list[str]]:
    """Return the patients in strata, sorted: those with a fracture, and those without."""
    has_fracture: dict[str, bool] = defaultdict(bool)
    for record in records:
        has_fracture[record.patient_id] |= record.label == FRACTURE
    strata = [
        sorted(p for p, found in has_fracture.items() if found == kind) for kind in (False, True)
    ]
    return [groups for groups in strata if groups]


def _split_sides(records: Records, strata: Sequence[Sequence[str]], seed: int) -> Split:
    """Draw validation and test from each stratum, in proportion to its size."""
    total = sum(map(len, strata))
    # As many for both sides, since both judge.
    wanted = max(MIN_GROUPS_A_SIDE, round(HELD_OUT_SHARE * total))
    rng = np.random.default_rng(seed)
    side_of: dict[str, str] = {}
    left, seats = total, dict.fromkeys(SIDES[1:], wanted)
    for groups in strata:
        # Sorted before it is shuffled, so that the draw does not depend on the disk's order.
        order = [groups[i] for i in rng.permutation(len(groups))]
        for side in SIDES[1:]:
            # Each stratum gives its share of the seats that are left, so rounding never loses one.
            count = math.ceil(seats[side] * len(groups) / left) if left else 0
            seats[side] -= count
            side_of.update(dict.fromkeys(order[:count], side))
            order = order[count:]
        left -= len(groups)
        side_of.update(dict.fromkeys(order, "train"))
    sides = [tuple(r for r in records if side_of[r.patient_id] == side) for side in SIDES]
    counts = [f"{_count_groups(side)} for {name}" for name, side in zip(SIDES, sides, strict=True)]
    note = f"Split by patient: {', '.join(counts)}. One variant of each slice is used."
    return _make(sides[0], sides[1], sides[2], None, note, "grouped")


def _split_folds(records: Records, seed: int) -> Split:
    """Leave out each group, or each of 5 group folds 3 times; there is no independent test."""
    groups = sorted({record.patient_id for record in records})
    if len(groups) < 2:
        raise DataError(
            "`data` must hold at least 2 patients to score a model on one it has not seen. "
            f"Received: {len(groups)}"
        )
    if len(groups) < FOLDS:
        folds = [_leave_out(records, {group}, group, 0) for group in groups]
        how = f"each of the {len(groups)} patients left out in turn"
    else:
        folds = _fold_repeats(records, seed)
        how = f"{FOLDS} folds of {len(groups)} patients left out in turn, {REPEATS} times"
    # A fold that leaves one class alone to learn from cannot be trained.
    trainable = tuple(fold for fold in folds if _has_both(fold.train))
    # Only what is left out is judged: with one class alone there is no figure and no threshold.
    if not _has_both(tuple(record for fold in trainable for record in fold.held_out)):
        raise DataError(
            "`data` must hold each class in at least 2 patients, so that either can be left out. "
            "Received: all slices of a class stand in one"
        )
    if dropped := len(folds) - len(trainable):
        turns = f"{dropped} of these {len(folds)} turns"
        how += f", but for {turns}, which would leave one class alone to learn from"
    note = f"No independent test: {how}. One variant of each slice is used."
    return _make(records, (), (), trainable, note, "grouped")


def _fold_repeats(records: Records, seed: int) -> list[Fold]:
    strata = _stratify(records)
    rng = np.random.default_rng(seed)
    folds = []
    for repeat in range(REPEATS):
        order = [groups[i] for groups in strata for i in rng.permutation(len(groups))]
        # Every fifth of the strata in a row: each fold is stratified.
        for index in range(FOLDS):
            left_out = set(order[index::FOLDS])
            folds.append(_leave_out(records, left_out, f"fold {index + 1}", repeat))
    return folds


def _leave_out(records: Records, groups: set[str], name: str, repeat: int) -> Fold:
    train = tuple(record for record in records if record.patient_id not in groups)
    held_out = tuple(record for record in records if record.patient_id in groups)
    return Fold(name, repeat, train, held_out)


def _has_both(records: Records) -> bool:
    return len({record.label for record in records}) == 2


def _split_published(records: Records) -> Split:
    sides = {side: tuple(r for r in records if r.split == side) for side in SIDES}
    if not sides["train"] or not (sides["validation"] or sides["test"]):
        raise DataError(
            "`split` published needs a data set with train and val or test folders. Received: none"
        )
    if not sides["validation"]:
        held = {path for label in (0, 1) for path in _first_share(sides["train"], label)}
        sides["validation"] = tuple(r for r in sides["train"] if r.path in held)
        sides["train"] = tuple(r for r in sides["train"] if r.path not in held)
    kinds = Counter(group.split()[0] for group, _, _ in find_leaks(sides))
    shared = count_slices(kinds["slice"], kinds["patient"])
    slices = [f"{name} stands on {_describe(side)}" for name, side in sides.items() if side]
    note = f"As published: {'; '.join(slices)}; on two sides: {shared}."
    if not sides["test"]:
        note = f"No independent test: none is published, and validation chose. {note}"
    return _make(sides["train"], sides["validation"], sides["test"], None, note, "published")


def _first_share(records: Records, label: int) -> list[str]:
    """Return the first 20 % of a class's paths by name, as Keras' `validation_split` takes."""
    # By name, as Keras sorts them: one class after the other, and the first share of each.
    # `ImageDataGenerator` counts from the front, `image_dataset_from_directory` from the end.
    paths = sorted(record.path for record in records if record.label == label)
    return paths[: int(PUBLISHED_VALIDATION_SHARE * len(paths))]


def _describe(records: Records) -> str:
    numbers = len(records), len({r.slice_id for r in records}), _count_groups(records)
    return " of ".join(map(count_noun, numbers, ("file", "slice", "patient")))


def _count_groups(records: Records) -> int:
    return len({record.patient_id for record in records})


def _make(
    train: Records,
    validation: Records,
    test: Records,
    folds: tuple[Fold, ...] | None,
    note: str,
    mode: str,
) -> Split:
    manifest = _write_manifest(train, validation, test, folds)
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    return Split(train, validation, test, folds, digest, note, mode)


def _write_manifest(
    train: Records, validation: Records, test: Records, folds: tuple[Fold, ...] | None
) -> str:
    sides = [("train", train), ("validation", validation), ("test", test)]
    if folds is not None:
        sides = [(f"{fold.name}, repeat {fold.repeat + 1}", fold.held_out) for fold in folds]
    out = io.StringIO()
    # The same bytes on every system, since the manifest is hashed.
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["side", "path", "label", "patient_id", "slice_id", "sha256"])
    for side, records in sides:
        for r in records:
            writer.writerow([side, r.path, r.label, r.patient_id, r.slice_id, r.sha256])
    return out.getvalue()
