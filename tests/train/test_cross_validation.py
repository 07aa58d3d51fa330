"""Few patients: each left out in turn, pooled scores, a refit on all, and it is said everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cspine.core.errors import DataError
from cspine.core.train_config import TrainConfig
from cspine.data.split import Fold
from cspine.model.store.registry import resolve_version
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.grouped import write_grouped
from cspine.train import cross_validation, publish
from cspine.train.candidates import RunContext, _transfer_plan, count_epochs
from cspine.train.fitting.augment import augment
from cspine.train.fitting.augment_slices import augment_slices
from cspine.train.fitting.result import FitResult, join_results
from cspine.train.fitting.trainer import TimeBudget
from cspine.train.run import run_training
from support.train_samples import draw_samples


def result_of(values, held_out=None):
    history = [{"epoch": n, "value": v, "validation_loss": 1.0} for n, v in enumerate(values, 1)]
    logits = np.array(values if held_out is None else held_out, float)[:, None]
    return FitResult(history, int(np.argmax(values)) + 1, logits, "finished")


def test_places_compare_fits_whose_first_stages_differ_in_length():
    long = join_results({"head": result_of([1, 2, 3]), "tune": result_of([4, 9])})
    short = join_results({"head": result_of([1]), "tune": result_of([5, 6, 7])})
    assert (long.best_epoch, long.best_position) == (5, (1, 2))
    assert (short.best_epoch, short.best_position) == (4, (1, 3))
    assert long.logits_at((1, 2)) == 9
    assert short.logits_at((1, 2)) == 6
    assert short.logits_at((0, 3)) == 1  # its head ended sooner
    assert result_of([3, 5, 4]).best_position == (0, 2)
    assert cross_validation.find_median([(1, 3), (0, 9), (1, 1), (0, 2)]) == (0, 9)


@pytest.fixture
def folds(monkeypatch, tmp_path):
    """A function that runs `fit_folds` with fits that give set results; and what they were given.

    Five patients of four slices, each left out once; the logit of a slice is its patient's number.
    """
    samples = draw_samples(count=20)
    patients = np.arange(len(samples)) // 4 % 5
    records = tuple(
        SimpleNamespace(path=name, patient_id=f"p{p}")
        for name, p in zip(samples.slice_ids, patients, strict=True)
    )
    groups = np.array([record.patient_id for record in records])
    samples = replace(samples, groups=groups, records=records)
    given = []

    def run(results, is_first=True, repeats=1, published=None):
        waiting = iter(results)

        def fit_once(name, config, train, held_out, clock, folder, until=None):
            given.append((set(train.groups), None if held_out is None else held_out, until))
            result = next(waiting)
            if isinstance(result, KeyboardInterrupt):
                raise result
            return name, result

        def measure_distances(classifier, train, held_out):
            assert not set(train.groups) & set(held_out.groups)
            return np.full(len(held_out), float(len(given)))

        monkeypatch.setattr(cross_validation, "fit_once", fit_once)

        def run_network(classifier, images):
            return SimpleNamespace(logits=np.arange(float(len(images))))

        monkeypatch.setattr(cross_validation, "measure_distances", measure_distances)
        monkeypatch.setattr(cross_validation, "run_network", run_network)
        record = [SimpleNamespace(patient_id=f"p{p}") for p in range(5)]
        turns = tuple(Fold(f"p{p}", r, (), (record[p],)) for r in range(repeats) for p in range(5))
        validation = tuple(r for r in samples.records if r.patient_id == "p4")
        training_folds = turns[:4] if published == "left out" else ()
        split = SimpleNamespace(folds=turns, training_folds=training_folds, validation=validation)
        context = RunContext(TrainConfig(), None, split, "slice", tmp_path)
        if published:
            fit = cross_validation.fit_published
            return fit("cnn", context, samples, TimeBudget(None))
        return cross_validation.fit_folds("cnn", context, samples, TimeBudget(None), is_first)

    return run, given, samples


def fold_results(samples, best):
    """A result for each of five folds; the logit is 10 × the patient + the epoch."""
    found = []
    for patient, epoch in enumerate(best):
        count = int(((samples.groups == f"p{patient}") & ~samples.is_twin).sum())
        logits = np.stack([np.full(count, 10.0 * patient + e) for e in (1, 2, 3)])
        found.append(FitResult([{"epoch": epoch}], epoch, logits, "finished"))
    return found


def test_scores_are_pooled_at_one_epoch_and_the_refit_ends_there(folds):
    run, given, samples = folds
    refit = FitResult([{"epoch": 2}], 2, np.empty((0, 0)), "finished")
    _, final, pooled = run([*fold_results(samples, [1, 3, 2, 3, 1]), refit])
    assert final.best_epoch == 2
    assert not pooled.samples.is_twin.any()
    numbers = [int(group[1]) for group in pooled.samples.groups]
    np.testing.assert_array_equal(pooled.logits, [10.0 * p + 2 for p in numbers])
    # By the network of its own fold, each left out in one.
    np.testing.assert_array_equal(pooled.distances, [p + 1 for p in numbers])
    for patient, (seen, left_out, until) in enumerate(given[:5]):
        assert f"p{patient}" not in seen
        assert set(left_out.groups) == {f"p{patient}"}
        assert until is None
    assert given[5] == ({f"p{p}" for p in range(5)}, None, (0, 2))


def test_a_slice_has_the_distance_of_one_network_and_no_mean(folds):
    run, _, samples = folds
    refit = FitResult([{"epoch": 1}], 1, np.empty((0, 0)), "finished")
    _, _, pooled = run([*fold_results(samples, [1] * 5) * 2, refit], repeats=2)
    numbers = [int(group[1]) for group in pooled.samples.groups]
    np.testing.assert_array_equal(pooled.distances, [p + 1 for p in numbers])


def test_a_fixed_schedule_is_refitted_in_full(folds):
    run, given, samples = folds
    results = [replace(r, fixed_schedule=True) for r in fold_results(samples, [1] * 5)]
    run([*results, FitResult([{"epoch": 3}], 3, np.empty((0, 0)), "finished")])
    assert given[5][2] is None


LAST = FitResult([{"epoch": 2}], 2, np.empty((0, 0)), "finished")
EVERYONE = {f"p{p}" for p in range(5)}


def test_published_files_are_scored_by_a_first_fit_and_learned_by_the_refit(folds):
    run, given, samples = folds
    first = fold_results(samples, [2] * 5)[4]
    _, final, held_out = run([first, LAST], published="validation")
    seen, left_out, until = given[0]
    assert (seen, set(left_out.groups), until) == (EVERYONE - {"p4"}, {"p4"}, None)
    assert given[1] == (EVERYONE, None, (0, 2))
    assert not held_out.samples.is_twin.any()
    np.testing.assert_array_equal(held_out.logits, [42.0] * len(held_out.samples))
    np.testing.assert_array_equal(held_out.distances, [1.0] * len(held_out.samples))
    assert (final.stopped, final.history) == ("finished", first.history)


def test_published_training_series_left_out_in_turn_choose_the_epoch(folds):
    run, given, samples = folds
    results = [*fold_results(samples, [1, 3, 2, 2])[:4], LAST, LAST]
    _, final, held_out = run(results, published="left out")
    assert [until for _, _, until in given] == [None] * 4 + [(0, 2)] * 2
    assert given[4][:2] == (EVERYONE - {"p4"}, None)
    assert given[5][:2] == (EVERYONE, None)
    # By the network that learned from the training files alone.
    np.testing.assert_array_equal(held_out.logits, np.arange(len(held_out.samples)))
    assert [entry["epoch"] for entry in final.history] == [1, 3, 2, 2]


def test_an_interrupted_choice_of_the_epoch_uses_the_folds_that_are_done(folds):
    run, given, samples = folds
    done = fold_results(samples, [3, 3])
    _, final, _ = run([*done, KeyboardInterrupt(), LAST], published="left out")
    assert final.stopped == "interrupted"
    assert given[-1] == (EVERYONE - {"p4"}, None, (0, 3))
    with pytest.raises(KeyboardInterrupt):
        run([KeyboardInterrupt()], published="left out")


def test_an_interrupted_refit_keeps_the_first_fit(folds):
    run, _, samples = folds
    first = fold_results(samples, [3] * 5)[4]
    _, final, held_out = run([first, KeyboardInterrupt()], published="validation")
    assert (final.best_epoch, final.stopped) == (3, "interrupted")
    np.testing.assert_array_equal(held_out.logits, [43.0] * len(held_out.samples))


@pytest.mark.parametrize("as_exception", [False, True])
def test_an_interrupt_judges_the_folds_that_are_done(folds, as_exception):
    run, given, samples = folds
    first, second, third, *_ = fold_results(samples, [1] * 5)
    third = KeyboardInterrupt() if as_exception else replace(third, stopped="interrupted")
    refit = FitResult([{"epoch": 1}], 1, np.empty((0, 0)), "finished")
    _, final, pooled = run([first, second, third, refit])
    assert final.stopped == "interrupted"
    assert set(pooled.samples.groups) == {"p0", "p1"}
    assert len(pooled.logits) == len(pooled.distances) == len(pooled.samples)
    assert np.isfinite(pooled.distances).all()
    assert given[-1] == ({f"p{p}" for p in range(5)}, None, (0, 1))


@pytest.mark.parametrize(
    ("done", "refit", "is_first"),
    [(0, "finished", True), (1, "interrupted", True), (1, "finished", False)],
)
def test_an_interrupt_that_leaves_nothing_to_judge_ends_the_run(folds, done, refit, is_first):
    run, _, samples = folds
    results = fold_results(samples, [1] * 5)[:done]
    last = FitResult([{"epoch": 1}], 1, np.empty((0, 0)), refit)
    with pytest.raises(KeyboardInterrupt):
        run([*results, KeyboardInterrupt(), last], is_first)


def test_a_patient_without_a_vertebra_is_no_turn(samples):
    turns = tuple(
        Fold(name, 0, (), (SimpleNamespace(patient_id=name),)) for name in ("p0", "p1", "gone")
    )
    assert [fold.name for fold, _ in cross_validation.list_folds(turns, samples)] == ["p0", "p1"]
    alone = replace(samples, groups=np.full(len(samples), "p0"))
    with pytest.raises(DataError, match="in at least 2 patients"):
        cross_validation.list_folds(turns, alone)


def test_turns_that_pool_one_class_are_refused_before_any_fit(samples):
    turns = tuple(Fold(name, 0, (), (SimpleNamespace(patient_id=name),)) for name in ("p0", "p1"))
    chosen = np.isin(samples.groups, ["p0", "p1"]) & ~samples.is_twin
    two = samples.take(chosen)
    assert len(cross_validation.list_folds(turns, two)) == 2
    # Of p1 only its normal slice is left: without p0 there is no fracture to learn from.
    normal = replace(two, labels=np.where(two.groups == "p1", 0, two.labels))
    with pytest.raises(DataError, match="of each class in at least 2 patients"):
        cross_validation.list_folds(turns, normal)


def test_a_resumed_fold_measures_the_same_distances(samples, tmp_path):
    few = replace(samples.take(~samples.is_twin), masks=None)
    few = replace(few, groups=np.where(np.arange(len(few)) < 12, "p0", "p1"))
    left_out = few.groups == "p0"
    found = []
    for resume in (False, True):
        context = RunContext(TrainConfig(epochs=1, resume=resume), None, None, "slice", tmp_path)
        turns = [(Fold("p0", 0, (), ()), left_out)]
        found.append(np.full(len(few), np.nan))
        fit = cross_validation._fit_each_fold
        fit("cnn", context, few, turns, TimeBudget(None), found[-1])
    first, again = found
    assert np.isfinite(first[left_out]).all() and np.isnan(first[~left_out]).all()
    np.testing.assert_array_equal(first, again)


def test_where_transfer_ends_in_each_stage():
    config = TrainConfig(epochs=8)
    head, tuned = (_transfer_plan(config, until, augment) for until in ((0, 3), (1, 4)))
    assert (head.head.epochs, head.tune.epochs) == (3, 0)
    assert (tuned.head.epochs, tuned.tune.epochs) == (8, 4)
    assert tuned.head.patience is tuned.tune.patience is None
    free = _transfer_plan(config, None, augment)
    assert (free.head.epochs, free.tune.epochs) == (8, config.tune_epochs)
    assert free.head.patience == config.patience


def test_three_patients_become_a_version_that_says_it_has_no_test(tmp_path, monkeypatch):
    # test_train_cli.py runs it.
    monkeypatch.setattr(publish, "write_int8", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    data = write_grouped(tmp_path / "set", PhantomConfig(patients=3, slices_per_patient=4))
    config = TrainConfig(
        data=str(data), architectures=("cnn",), image_size=64, epochs=1, view="slice", resamples=20
    )
    result = run_training(config)
    card = json.loads((tmp_path / "models" / "best.json").read_text())
    assert resolve_version(tmp_path / "models").version == result.version
    assert set(card["metrics"]) == {"out-of-fold"}
    assert card["data"]["split_note"].startswith("No independent test: each of the 3 patients")
    assert card["data"]["sides"]["out-of-fold"]["slices"] == 12
    assert card["precision"]["chosen"] == "f32"
    assert card["details"]["out-of-fold"]["in_distribution_share"] == 1.0
    assert (tmp_path / "models" / "run" / "cnn" / "all" / "fit.npz").is_file()
    page = (tmp_path / "models" / "report" / "index.html").read_text()
    assert "No independent test" in page


def test_augmented_slices_are_learned_for_a_number_of_images():
    assert count_epochs(128, augment_slices) == 200
    assert count_epochs(3200, augment_slices) == 8
    assert count_epochs(100_000, augment_slices) == 5
    assert count_epochs(128, augment) == count_epochs(128, None) == 20
