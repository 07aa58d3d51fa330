"""The control of random labels: every fold is left out, and it says on how many it stands."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cspine.core.train_config import TrainConfig
from cspine.data.split import Fold
from cspine.train import controls
from cspine.train.fitting.result import FitResult

BEST = SimpleNamespace(classifier=SimpleNamespace(image_size=32, name="cnn"))


@pytest.fixture
def run(samples, monkeypatch, tmp_path):
    """A function that runs the control on 12 patients of 2 slices; and the sides of each fit."""
    clean = samples.take(~samples.is_twin)
    sides = []

    def fit_once(name, config, train, held_out, clock, folder, until):
        sides.append((train, held_out))
        assert not config.resume and until == (0, controls.EPOCHS)
        # It knows its own labels by heart, so that a lost or a swapped one shows.
        logits = np.where(held_out.labels == 1, 2.0, -2.0)
        history = [{"epoch": 1, "value": 0.0}]
        return None, FitResult(history, 1, np.stack([np.zeros(len(logits)), logits]), "finished")

    monkeypatch.setattr(controls, "fit_once", fit_once)
    monkeypatch.setattr(
        controls, "load_side", lambda context, names, size: clean.take(np.isin(clean.groups, names))
    )

    def control(split):
        config = TrainConfig(resume=True, resamples=20, seed=1)
        context = SimpleNamespace(config=config, split=split, run_dir=tmp_path)
        return controls.run_random_labels(BEST, context)

    return control, sides


def test_every_fold_is_left_out_and_all_are_pooled(run):
    control, sides = run
    names = tuple(f"p{number}" for number in range(12))
    folds = tuple(
        Fold(f"fold {k}", 0, (), tuple(SimpleNamespace(patient_id=n) for n in names[k::3]))
        for k in range(3)
    )
    found = control(SimpleNamespace(train=names, validation=(), folds=folds))
    assert (found["slices"], found["patients"], found["epochs"]) == (24, 12, 3)
    assert found["auroc"]["value"] == 1.0
    assert found["auroc"]["low"] == 1.0
    assert [sorted(set(held_out.groups)) for _, held_out in sides] == [
        sorted(names[k::3]) for k in range(3)
    ]
    # One toss a slice for all folds, and no mask that would tell the truth.
    tossed = {}
    for train, held_out in sides:
        assert train.masks is None and not set(train.groups) & set(held_out.groups)
        for side in (train, held_out):
            for name, label in zip(side.slice_ids, side.labels, strict=True):
                assert tossed.setdefault(name, label) == label


def test_with_three_sides_validation_is_judged(run):
    control, sides = run
    split = SimpleNamespace(train=("p0", "p1"), validation=("p2", "p3", "p4"), folds=None)
    found = control(split)
    assert (found["slices"], found["patients"], len(sides)) == (6, 3, 1)
