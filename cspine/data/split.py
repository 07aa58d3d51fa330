"""Splitting of a data set into sides, so that no patient, volume or slice is on two sides.

The groups are the patients; those who share a slice are one group, but are counted as different
patients. A record of no known patient is one itself. Groups with a fracture and groups without one
are sampled separately, so that every side gets both classes.

With 40 groups or more there are three sides: validation and test each get 15 % of the groups, but
at least 10. With fewer groups, or if a side would lack a class, a single side could not be measured
on. Then 5 groups or more are divided into 5 folds, and each fold is held out once; this is repeated
with 3 random divisions. With 2 to 4 groups, each group is held out once.

The published mode keeps the sides of the data set's own folders, including their leaks. Folds of
its training side are used only to choose the epoch; the network that is kept is fitted to the
training and the validation side. `Dataset.with_groups` makes near-duplicates one slice before.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cspine.core.errors import ConfigError, DataError, SplitLeakError
from cspine.core.labels import FRACTURE
from cspine.core.text import count_noun, count_slices
from cspine.data.layouts.filenames import variant_rank
from cspine.data.records import Dataset, SliceRecord, link_patients

Records = tuple[SliceRecord, ...]
Groups = Mapping[str, str]  # patient → group
SIDES = ("train", "validation", "test")
# Three sides need 40 groups: 10 for validation and 10 for test leave half for training.
MIN_GROUPS_A_SIDE = 10
HELD_OUT_SHARE = 0.15
# Folds are repeated, because with few patients a figure depends on which of them share a fold.
FOLDS, REPEATS = 5, 3
# The published training run held out 760 of its 3,800 training files.
PUBLISHED_VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation: a model trained on `train` scores `held_out`."""

    name: str
    repeat: int
    train: Records
    held_out: Records


@dataclass(frozen=True)
class Split:
    """The sides of a data set.

    If there are `folds`, `train` holds every record, and `validation` and `test` are empty.
    `training_folds` are folds of `train` only, in addition to the three sides; the tuple may be
    empty. `note` says in one sentence what the split is and how much data its figures are based on.
    `mode` is `grouped` or `published`.
    """

    train: Records
    validation: Records
    test: Records
    note: str
    mode: str = "grouped"
    folds: tuple[Fold, ...] | None = None
    training_folds: tuple[Fold, ...] = ()

    @property
    def manifest_sha256(self) -> str:
        """The hex SHA-256 of `manifest()`."""
        return hashlib.sha256(self.manifest().encode()).hexdigest()

    def manifest(self) -> str:
        """Return the split as CSV text: side, path, label, patient, slice and content hash."""
        sides = list(zip(SIDES, (self.train, self.validation, self.test), strict=True))
        if self.folds is not None:
            sides = [(f"{one.name}, repeat {one.repeat + 1}", one.held_out) for one in self.folds]
        out = io.StringIO()
        # The line ending is fixed, because the hash must be the same on every system.
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["side", "path", "label", "patient_id", "slice_id", "sha256"])
        for side, records in sides:
            for r in records:
                writer.writerow([side, r.path, r.label, r.patient_id, r.slice_id, r.sha256])
        return out.getvalue()

    def leaks(self) -> list[tuple[str, str, str]]:
        """Return (group, one side, another side) for each group on two sides; see `find_leaks`."""
        return find_leaks({"train": self.train, "validation": self.validation, "test": self.test})


def split_dataset(dataset: Dataset, mode: str = "grouped", seed: int = 0) -> Split:
    """Return the sides of `dataset`. The same records, mode and seed give the same split.

    Args:
        dataset: its records without a label are ignored.
        mode: `grouped` splits by patient and uses one variant per slice. `published` keeps the
            sides on disk with all variants; if only train and test are on disk, the first 20 % of
            each class's training files by name become validation, as with Keras'
            `validation_split`.
        seed: seed of the random choice of groups.

    Raises:
        ConfigError: `mode` is neither `grouped` nor `published`.
        DataError: there are too few groups to hold one out, or no published sides.
    """
    if mode not in ("grouped", "published"):
        raise ConfigError(f"`split` must be grouped or published. Received: {mode!r}")
    labelled = tuple(record for record in dataset.records if record.label is not None)
    if mode == "published":
        return _split_published(labelled, seed)
    # Linked before copies are left out: afterwards, a shared slice has only one of its patients.
    groups, kept = link_patients(labelled), keep_originals(labelled)
    strata = _stratify(kept, groups)
    if sum(map(len, strata)) >= 4 * MIN_GROUPS_A_SIDE:
        split = _split_sides(kept, groups, strata, seed)
        if all(_has_both(side) for side in (split.train, split.validation, split.test)):
            return split
    return _split_folds(kept, groups, seed)


def keep_originals(records: Iterable[SliceRecord]) -> Records:
    """Return one record per slice: the original or, without one, the least processed variant."""
    # Copies would only add to the weight of a slice.
    best: dict[str, SliceRecord] = {}
    for record in sorted(records, key=lambda record: variant_rank(record.variant, record.path)):
        best.setdefault(record.slice_id, record)
    return tuple(sorted(best.values(), key=lambda record: record.path))


def find_leaks(sides: dict[str, Records]) -> list[tuple[str, str, str]]:
    """Return (group, one side, another side) for each patient, volume or slice on two sides."""
    side_of: dict[str, str] = {}
    leaks: dict[str, tuple[str, str, str]] = {}
    for side, records in sides.items():
        for r in records:
            # Training on the same patient, volume or slice gives a model an unfair advantage.
            groups = (f"patient {r.patient_id}", f"volume {r.volume_id}", f"slice {r.slice_id}")
            for group in groups:
                if side_of.setdefault(group, side) != side:
                    leaks.setdefault(group, (group, side_of[group], side))
    return sorted(leaks.values())


def refuse_leaks(split: Split) -> None:
    """Check that no group of `split` is on two sides.

    Raises:
        SplitLeakError: a group is on two sides; up to five are named.
    """
    leaks = split.leaks()
    if leaks:
        shown = ", ".join(f"{group} in {one} and {two}" for group, one, two in leaks[:5])
        raise SplitLeakError(
            f"No group may be on two sides of a split. Received: {len(leaks)}: {shown}"
        )


def _stratify(records: Records, group_of: Groups) -> list[list[str]]:
    """Return two sorted lists, of the groups without a fracture and with one; no empty list."""
    fractured = {group_of[record.patient_id] for record in records if record.label == FRACTURE}
    others = {group_of[record.patient_id] for record in records} - fractured
    return [sorted(groups) for groups in (others, fractured) if groups]


def _split_sides(
    records: Records, group_of: Groups, strata: Sequence[Sequence[str]], seed: int
) -> Split:
    """Sample the groups of validation and test from each stratum, in proportion to its size."""
    total = sum(map(len, strata))
    # Validation and test each get this many groups.
    wanted = max(MIN_GROUPS_A_SIDE, round(HELD_OUT_SHARE * total))
    rng = np.random.default_rng(seed)
    side_of: dict[str, str] = {}
    left, missing = total, dict.fromkeys(SIDES[1:], wanted)
    for groups in strata:
        order = [groups[i] for i in rng.permutation(len(groups))]
        for side in SIDES[1:]:
            # `missing` is divided in proportion to the strata not yet handled, so that each side
            # gets exactly `wanted` groups despite rounding.
            count = math.ceil(missing[side] * len(groups) / left) if left else 0
            missing[side] -= count
            side_of.update(dict.fromkeys(order[:count], side))
            order = order[count:]
        left -= len(groups)
        side_of.update(dict.fromkeys(order, "train"))
    sides = [tuple(r for r in records if side_of[group_of[r.patient_id]] == s) for s in SIDES]
    counts = [
        f"{_count_patients(side)} for {name}" for name, side in zip(SIDES, sides, strict=True)
    ]
    note = f"Split by patient: {', '.join(counts)}. One variant of each slice is used."
    return Split(train=sides[0], validation=sides[1], test=sides[2], note=note)


def _split_folds(records: Records, group_of: Groups, seed: int) -> Split:
    """Return a split without an independent test: each group or fold is held out once."""
    count = _count_patients(records)
    folds = _make_folds(records, group_of, seed, REPEATS)
    how = f"each of the {count} patients left out in turn"
    if len(folds) > FOLDS:
        how = f"{FOLDS} folds of {count} patients left out in turn, {REPEATS} times"
    # A fold cannot be trained if its training side has only one class.
    trainable = tuple(fold for fold in folds if _has_both(fold.train))
    # Figures and threshold come from all held-out records, which therefore need both classes.
    if not _has_both(tuple(record for fold in trainable for record in fold.held_out)):
        raise DataError(
            "`data` must hold each class in at least 2 patients, so that one patient can be left "
            "out. Received: a class with slices of only one patient"
        )
    if dropped := len(folds) - len(trainable):
        left_out = f"{dropped} of these {len(folds)} folds"
        how += f", except {left_out}, whose training side would have only one class"
    note = f"No independent test: {how}. One variant of each slice is used."
    return Split(train=records, validation=(), test=(), note=note, folds=trainable)


def _fold_training_side(records: Records, seed: int) -> tuple[Fold, ...]:
    """Return folds of a training side by group; none if fewer than two have an AUROC.

    A fold needs both classes on either side, since only then can it order the epochs by AUROC.
    """
    folds = _make_folds(records, link_patients(records), seed, 1)
    usable = tuple(fold for fold in folds if _has_both(fold.train) and _has_both(fold.held_out))
    return usable if len(usable) > 1 else ()


def _make_folds(records: Records, group_of: Groups, seed: int, repeats: int) -> list[Fold]:
    """Return a fold for each group or, with 5 groups or more, 5 folds of groups per repeat."""
    strata, rng = _stratify(records, group_of), np.random.default_rng(seed)
    groups = sorted(group for stratum in strata for group in stratum)
    if len(groups) < FOLDS:
        return [_leave_out(records, group_of, {group}, group, 0) for group in groups]
    folds = []
    for repeat in range(repeats):
        order = [stratum[i] for stratum in strata for i in rng.permutation(len(stratum))]
        # `order` has one stratum after the other, so taking every fifth group stratifies the fold.
        for index in range(FOLDS):
            left_out = set(order[index::FOLDS])
            folds.append(_leave_out(records, group_of, left_out, f"fold {index + 1}", repeat))
    return folds


def _leave_out(records: Records, of: Groups, groups: set[str], name: str, repeat: int) -> Fold:
    train = tuple(r for r in records if of[r.patient_id] not in groups)
    held_out = tuple(r for r in records if of[r.patient_id] in groups)
    return Fold(name, repeat, train, held_out)


def _has_both(records: Records) -> bool:
    return len({record.label for record in records}) == 2


def _split_published(records: Records, seed: int) -> Split:
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
    slices = [f"{name} has {_describe(side)}" for name, side in sides.items() if side]
    note = f"As published: {'; '.join(slices)}; on two sides: {shared}."
    if not sides["test"]:
        why = "none is published, and the validation set chose the model"
        note = f"No independent test: {why}. {note}"
    return Split(
        train=sides["train"],
        validation=sides["validation"],
        test=sides["test"],
        note=note,
        mode="published",
        training_folds=_fold_training_side(sides["train"], seed),
    )


def _first_share(records: Records, label: int) -> list[str]:
    """Return the first 20 % of a class's paths by name, as with Keras' `validation_split`."""
    # Keras' `ImageDataGenerator` takes the first ones, `image_dataset_from_directory` the last.
    paths = sorted(record.path for record in records if record.label == label)
    return paths[: int(PUBLISHED_VALIDATION_SHARE * len(paths))]


def _describe(records: Records) -> str:
    numbers = len(records), len({r.slice_id for r in records}), _count_patients(records)
    return " of ".join(map(count_noun, numbers, ("file", "slice", "patient")))


def _count_patients(records: Records) -> int:
    return len({record.patient_id for record in records})
