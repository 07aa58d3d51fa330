"""Conformal sets: exact ranks, agreement with crepes, coverage, and honest edges."""

import numpy as np
import pytest
from crepes import ConformalClassifier

from cspine.core.errors import DataError
from cspine.decide.conformal import Conformal, class_scores, fit_conformal


def draw(count: int, seed: int):
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.4).astype(int)
    return rng.beta(1 + 3 * labels, 4 - 2 * labels), labels


def test_the_quantile_is_the_ceiling_rank():
    probabilities = np.append(np.arange(1, 10) / 100, 0.9)
    fitted = fit_conformal(probabilities, np.append(np.zeros(9, int), 1), alpha=0.2)
    # Rank ⌈10 · 0.8⌉ = 8.
    assert fitted.quantile_normal == pytest.approx(0.08)
    # One fracture cannot exclude a fracture.
    assert fitted.quantile_fracture == 1.0


def test_sets_by_hand():
    # One class, none, the other class, one class.
    sets = Conformal(0.1, 0.3, 0.6).sets(np.array([0.1, 0.35, 0.5, 0.2]))
    assert sets.tolist() == [[True, False], [False, False], [False, True], [True, False]]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.25])
@pytest.mark.parametrize("count", [30, 199, 1000])
def test_the_sets_are_those_of_crepes(alpha, count):
    calibration, labels = draw(count, seed=count)
    new, _ = draw(500, seed=count + 1)
    scores = class_scores(calibration)[np.arange(count), labels]
    theirs = ConformalClassifier().fit(scores, bins=labels)
    bins = np.tile([0, 1], (len(new), 1))
    expected = np.stack(
        [
            theirs.predict_set(
                class_scores(new)[:, [c]], bins=bins[:, c], confidence=1 - alpha, smoothing=False
            )[:, 0]
            for c in (0, 1)
        ],
        axis=1,
    )
    ours = fit_conformal(calibration, labels, alpha).sets(new)
    assert (ours == expected.astype(bool)).all()


def test_the_sets_are_those_of_crepes_wrapped_round_a_classifier():
    from crepes import WrapClassifier
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(5)
    features = rng.normal(size=(900, 2))
    labels = (features[:, 0] + rng.normal(size=900) > 0.5).astype(int)
    wrapped = WrapClassifier(LogisticRegression())
    wrapped.fit(features[:300], labels[:300])
    wrapped.calibrate(features[300:600], labels[300:600], class_cond=True)
    expected = wrapped.predict_set(features[600:], confidence=0.9, smoothing=False, labels=False)
    probabilities = wrapped.learner.predict_proba(features)[:, 1]
    ours = fit_conformal(probabilities[300:600], labels[300:600], 0.1).sets(probabilities[600:])
    assert (ours == np.asarray(expected, bool)).all()


def test_each_class_is_covered():
    # Fifty draws, since the promise is one on average over validation sets.
    covered = np.zeros(2)
    for seed in range(50):
        sets = fit_conformal(*draw(600, seed)).sets(draw(4000, seed + 1000)[0])
        labels = draw(4000, seed + 1000)[1]
        covered += [sets[labels == c, c].mean() for c in (0, 1)]
    assert covered / 50 == pytest.approx([0.9, 0.9], abs=0.01)


def test_bad_input_is_named():
    with pytest.raises(DataError, match="no fracture"):
        fit_conformal(np.array([0.2, 0.3]), np.array([0, 0]))
    with pytest.raises(DataError, match="alpha"):
        fit_conformal(np.array([0.2, 0.3]), np.array([0, 1]), alpha=1.0)
