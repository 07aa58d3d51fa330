"""The fitting loop: reproducible, resumable, interruptible, and it keeps the best."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cspine.core.errors import ConfigError
from cspine.train.fitting.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from cspine.train.fitting.result import rate_epoch
from cspine.train.fitting.trainer import (
    FitPlan,
    TimeBudget,
    class_weights,
    rate_at,
)
from support.fits import start_fit

ROOT = Path(__file__).parents[3]
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def test_same_seed_same_weights_in_two_processes():
    code = (
        "from tests.support.fits import *; from tests.support.train_samples import draw_samples\n"
        "c, fit = start_fit(draw_samples(), PLAN, 'cnn')\n"
        "fit.run(TimeBudget(None)); print(digest_of(c))"
    )
    environment = {**os.environ, "TF_DETERMINISTIC_OPS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Two processes: in one, the second could profit from what the first left behind.
    runs = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, **PIPES)
        for _ in range(2)
    ]
    (first, errors), (second, _) = (run.communicate() for run in runs)
    assert first.strip(), errors[-2000:]
    assert first == second


def test_a_resumed_fit_ends_where_an_unbroken_one_does(samples, tmp_path, monkeypatch):
    whole, fit = start_fit(samples)
    result = fit.run(TimeBudget(None))
    _broken, fit = start_fit(samples)
    step = fit.network.train_on_batch

    def stop_in_the_second_epoch(*batch, **weights):
        if fit.history:
            raise KeyboardInterrupt
        return step(*batch, **weights)

    monkeypatch.setattr(fit.network, "train_on_batch", stop_in_the_second_epoch)
    assert fit.run(TimeBudget(None), tmp_path / "c.npz").stopped == "interrupted"
    resumed, fit = start_fit(samples)
    again = fit.run(TimeBudget(None), tmp_path / "c.npz")
    assert [e["loss"] for e in again.history] == pytest.approx([e["loss"] for e in result.history])
    np.testing.assert_allclose(again.held_out, result.held_out, atol=1e-6)
    for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_best_weights_are_kept(samples, monkeypatch):
    classifier, fit = start_fit(samples)
    # The second epoch is the worse one.
    values = iter([0.9, 0.4])
    kept = []

    def score(*_):
        kept.append(classifier.training.get_weights())
        return next(values)

    monkeypatch.setattr("cspine.train.fitting.trainer.compute_auroc", score)
    assert fit.run(TimeBudget(None)).best_epoch == 1
    np.testing.assert_array_equal(classifier.training.get_weights()[0], kept[0][0])


def test_a_time_limit_ends_a_fit_after_one_epoch(samples):
    _, fit = start_fit(samples, FitPlan(epochs=50, batch_size=8, learning_rate=1e-3, seed=0))
    # Over before the first step: one epoch is done all the same.
    result = fit.run(TimeBudget(0.01))
    assert (result.stopped, len(result.history)) == ("time", 1)


def test_an_interrupt_before_the_first_epoch_is_passed_on(samples, monkeypatch):
    _, fit = start_fit(samples)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit.network, "train_on_batch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit.run(TimeBudget(None))


def test_rate_rises_and_falls():
    plan = FitPlan(epochs=1, batch_size=1, learning_rate=1.0, seed=0, warmup=0.1)
    rates = [rate_at(done, plan) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
    # A fiftieth at the start, the peak after the warm-up, a hundredth at the end.
    assert rates == pytest.approx([0.02, 0.51, 1.0, 0.505, 0.01])


def test_class_weights_balance():
    labels = np.array([0, 0, 0, 1])
    weights = class_weights(labels)
    assert weights[labels].mean() == pytest.approx(1.0)
    # One fracture weighs as much as three normal slices.
    assert weights[1] * 1 == pytest.approx(weights[0] * 3)


def test_checkpoint_round_trip_and_foreign_key(tmp_path):
    arrays = [np.arange(3.0), np.ones((2, 2))]
    state = Checkpoint("mine", [{"value": 0.5}], arrays, arrays[:1], arrays, np.zeros((1, 4)))
    write_checkpoint(tmp_path / "c.npz", state)
    found = read_checkpoint(tmp_path / "c.npz", "mine")
    np.testing.assert_array_equal(found.network[1], arrays[1])
    assert (found.history, len(found.optimizer)) == ([{"value": 0.5}], 1)
    assert read_checkpoint(tmp_path / "c.npz", "another's") is None
    assert read_checkpoint(tmp_path / "none.npz", "mine") is None
    (tmp_path / "cut.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:-30])
    with pytest.raises(ConfigError, match=r"whole checkpoints\. Received: .*cut\.npz"):
        read_checkpoint(tmp_path / "cut.npz", "mine")


def test_a_part_of_the_clock_is_a_part_of_what_is_left():
    assert TimeBudget(None).part(0.5).limit_s is None
    assert TimeBudget(100.0).part(0.25).limit_s == pytest.approx(25.0, abs=0.1)
    assert math.isclose(TimeBudget(None).elapsed_share, 0.0)


def test_epochs_are_ordered_by_auroc_and_by_loss_where_it_says_nothing():
    assert rate_epoch(0.8, 0.1) == 0.8
    assert rate_epoch(1.0, 0.3) > rate_epoch(1.0, 0.4) > rate_epoch(0.999, 0.01)
    assert rate_epoch(math.nan, 0.3) > rate_epoch(math.nan, 0.4)
