"""The curves against scikit-learn; bands hold their curve; bins hold every slice."""

import numpy as np
import pytest
from sklearn import metrics as sk

from cspine.evaluate.curves import (
    GRID,
    confusion,
    precision_recall_curve,
    reliability,
    roc_curve,
)


def draw(count=400, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3 == 0
    return labels.astype(int), np.round(1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1.5))), 2)


def test_the_roc_curve_is_that_of_scikit_learn():
    labels, p = draw()
    curve = roc_curve(labels, p, resamples=20)
    fpr, tpr, _ = sk.roc_curve(labels, p, drop_intermediate=False)
    for x, y in zip(curve.x, curve.y, strict=True):
        # Where the curve rises upright any height between both ends is right.
        between = tpr[fpr <= x + 1e-12].max(), tpr[fpr >= x - 1e-12].min()
        assert min(between) - 1e-9 <= y <= max(between) + 1e-9
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(sk.roc_auc_score(labels, p), abs=0.01)


def test_precision_is_that_of_the_highest_threshold_reaching_the_recall():
    labels, p = draw()
    curve = precision_recall_curve(labels, p, resamples=20)
    for at in (20, 100, 180):
        reached = [t for t in np.unique(p) if (p[labels == 1] >= t).mean() >= GRID[at] - 1e-12]
        assert curve.y[at] == pytest.approx(labels[p >= max(reached)].mean())


def test_bands_hold_the_curve_and_one_patient_has_none():
    labels, p = draw()
    curve = roc_curve(labels, p, np.arange(400) // 10, resamples=200)
    assert ((curve.low - 0.02 <= curve.y) & (curve.y <= curve.high + 0.02)).all()
    assert np.isnan(roc_curve(labels, p, np.zeros(400)).low).all()


def test_reliability_bins_hold_every_slice_once():
    labels, p = draw()
    bins = reliability(labels, p)
    assert bins.counts.sum() == 400 and np.ptp(bins.counts) <= 1 and len(bins.counts) == 15
    assert (bins.observed * bins.counts).sum() == pytest.approx(labels.sum())
    assert ((bins.low <= bins.observed) & (bins.observed <= bins.high)).all()
    assert len(reliability(labels[:4], p[:4]).counts) == 4


def test_confusion_by_hand():
    cells = confusion(np.array([0, 0, 0, 1, 1]), np.array([False, True, True, True, False]))
    assert cells.tolist() == [[1, 2], [1, 1]]
