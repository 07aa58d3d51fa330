"""No group on two sides, ever; small sets are left out in turn; published sides stay."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cspine.core.errors import ConfigError, DataError, SplitLeakError
from cspine.core.labels import FRACTURE, NORMAL
from cspine.data.index import index_dataset
from cspine.data.records import SliceRecord
from cspine.data.split import find_leaks, refuse_leaks, split_dataset

SIDES = ("train", "validation", "test")


def record(patient: int, number: int, label: int, variant: str = "") -> SliceRecord:
    patient_id, slice_id = f"p{patient}", f"p{patient} ({number})"
    path = f"{slice_id}-{variant}.png"
    return SliceRecord(path, label, None, patient_id, patient_id, slice_id, variant)


def make_records(patients: int, slices: int = 2) -> list[SliceRecord]:
    """Half of the patients have one fracture; every slice has a variant beside its original."""
    return [
        record(p, n, FRACTURE if n == 0 and p % 2 else NORMAL, variant)
        for p in range(patients)
        for n in range(slices)
        for variant in ("", "rotated1")
    ]


draws = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4), st.booleans()), min_size=4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draws=draws, seed=st.integers(0, 5))
def test_no_group_on_two_sides(make_dataset, draws, seed):
    records = {r.path: r for p, n, broken in draws for r in [record(p, n, int(broken))]}
    try:
        split = split_dataset(make_dataset(list(records.values())), "grouped", seed)
    except DataError:
        # Fewer than two groups with both classes: refused, not leaked.
        return
    assert not split.leaks()
    for fold in split.folds or ():
        assert not find_leaks({"train": fold.train, "held out": fold.held_out})


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(links=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=30))
def test_no_joined_volume_on_two_sides(make_dataset, links):
    dataset = make_dataset(make_records(100))
    groups = {r.path: (r.slice_id, r.volume_id) for r in dataset.records}
    # The audit found a slice of one patient in another's volume.
    for one, other in links:
        groups[f"p{one} (0)-.png"] = (f"p{other} (1)", f"p{other}")
    split = split_dataset(dataset.with_groups(groups), "grouped", 0)
    assert not split.leaks()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patients=st.integers(5, 39), seed=st.integers(0, 9))
def test_folds_hold_out_every_slice_once_a_repeat(make_dataset, patients, seed):
    split = split_dataset(make_dataset(make_records(patients)), "grouped", seed)
    held: dict[int, list[str]] = defaultdict(list)
    for fold in split.folds:
        held[fold.repeat] += [r.path for r in fold.held_out]
    assert len(split.folds) == 15 and len(held) == 3
    assert all(sorted(paths) == [r.path for r in split.train] for paths in held.values())
    assert "no independent test" in split.note.lower()


def test_three_stratified_sides_from_forty_groups_on(make_dataset):
    split = split_dataset(make_dataset(make_records(100)), "grouped", 0)
    counts = {side: {r.patient_id for r in getattr(split, side)} for side in SIDES}
    # 15 % of 100 patients for each of the two judging sides.
    assert [len(counts[side]) for side in SIDES] == [70, 15, 15]
    fractured = [sum(int(p[1:]) % 2 for p in counts[side]) for side in SIDES]
    assert sum(fractured) == 50 and all(
        abs(n / t - 0.5) < 0.05 for n, t in zip(fractured, (70, 15, 15), strict=True)
    )
    assert split.folds is None and "70 for train" in split.note


def test_one_variant_a_slice_is_kept(make_dataset):
    split = split_dataset(make_dataset(make_records(60)), "grouped", 0)
    kept = [r for side in SIDES for r in getattr(split, side)]
    assert len(kept) == 120 and {r.variant for r in kept} == {""}


def test_same_seed_same_manifest(make_dataset):
    dataset = make_dataset(make_records(60))
    one, two = (split_dataset(dataset, "grouped", 3) for _ in range(2))
    assert one.manifest_sha256 == two.manifest_sha256
    assert one.manifest_sha256 != split_dataset(dataset, "grouped", 4).manifest_sha256
    assert one.manifest().splitlines()[0] == "side,path,label,patient_id,slice_id,sha256"
    assert len(one.manifest().splitlines()) == 121


def test_fewer_than_five_groups_are_left_out_one_by_one(make_tree, published):
    split = split_dataset(index_dataset(make_tree(published)), "grouped", 0)
    assert [fold.name for fold in split.folds] == ["B10", "B11", "B12"]
    assert {r.patient_id for r in split.folds[0].held_out} == {"B10"}
    assert len(split.train) == 12 and not split.validation and not split.test


def test_published_sides_and_their_leak(make_tree, published):
    split = split_dataset(index_dataset(make_tree(published)), "published", 0)
    # A fifth of each class's training files by name, rounded down, is validation.
    assert (len(split.train), len(split.validation), len(split.test)) == (21, 4, 12)
    validation = [r.path.rsplit("/")[-1] for r in split.validation if r.label == FRACTURE]
    assert validation == ["CSFDV1B10 (18)-rotated3-rotated3.png", "CSFDV1B11 (1)-rotated1.png"]
    assert "test has 12 files of 4 slices of 1 patient" in split.note
    assert split.note.endswith("; on two sides: 3 slices of 2 patients.")
    with pytest.raises(SplitLeakError, match=r"slice B10 \(18\) in validation and test"):
        refuse_leaks(split)


def test_published_training_series_are_left_out_to_choose_the_epoch(make_tree, published):
    split = split_dataset(index_dataset(make_tree(published)), "published", 0)
    assert split.folds is None
    for fold in split.training_folds:
        assert {*fold.train, *fold.held_out} == set(split.train)
        assert {r.patient_id for r in fold.held_out} == {fold.name}
        assert fold.name not in {r.patient_id for r in fold.train}
    assert len(split.training_folds) > 1


def test_what_cannot_be_split_is_refused(make_dataset, make_tree):
    with pytest.raises(ConfigError, match="`split` must be grouped or published"):
        split_dataset(make_dataset(make_records(4)), "random", 0)
    with pytest.raises(DataError, match="at least 2 patients"):
        split_dataset(make_dataset(make_records(1)), "grouped", 0)
    # p0 has no fracture: without p1 there is nothing to learn from, and only p0 would be judged.
    with pytest.raises(DataError, match="each class in at least 2 patients"):
        split_dataset(make_dataset(make_records(2)), "grouped", 0)
    with pytest.raises(DataError, match="train and val or test folders"):
        split_dataset(make_dataset(make_records(4)), "published", 0)


def test_the_note_counts_the_turns_that_cannot_be_trained(make_dataset):
    # Two of ten patients hold the normal slices; in a turn without both nothing can be learned.
    normal = [record(p, 1, NORMAL) for p in range(2)]
    records = [record(p, 0, FRACTURE) for p in range(10)] + normal
    split = split_dataset(make_dataset(records), "grouped", 0)
    assert len(split.folds) == 14
    assert "except 1 of these 15 folds, whose training side would have only one class" in split.note
