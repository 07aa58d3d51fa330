"""Shortcut scores: how well features that show no fracture predict the label.

A logistic regression on a feature that shows no fracture (a tiny thumbnail, the histogram, the
size, the slice number) is cross-validated over groups. If the regression separates the classes on
held-out groups, any network could separate them too, for the wrong reason.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cspine.stats.bootstrap import draw_weights, group_codes
from cspine.stats.ranking import area_under_roc, compute_auroc, rank

# The limit applies to the lower 95 % bound of the AUROC, because with few groups the AUROC itself
# may be far above 0.5 by chance.
CONFOUND_FROM = 0.60
_FOLDS = 5
_RESAMPLES = 500


@dataclass(frozen=True)
class Shortcut:
    """Pooled out-of-fold AUROC of one feature, with its 95 % interval by bootstrap over groups."""

    auroc: float
    low: float
    high: float

    @property
    def is_confound(self) -> bool:
        """Whether this feature alone predicts the class, judged by the lower bound."""
        return self.low >= CONFOUND_FROM


def score_shortcut(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int = 0
) -> Shortcut | None:
    """Return how well `features` alone predict the label on held-out groups.

    Args:
        features: float (N, D), in any unit.
        labels: int (N,), 0 or 1.
        groups: str (N,), volume or patient.
        seed: seed of the bootstrap.

    Returns:
        The score, or None if there are fewer than 2 groups or 2 classes, or no fold can be trained.
    """
    scores = _score_out_of_fold(features, labels, groups)
    known = np.isfinite(scores)
    if len(np.unique(labels[known])) < 2:
        return None
    labels, scores, groups = labels[known], scores[known], groups[known]
    low, high = _find_interval(labels, scores, groups, seed)
    return Shortcut(compute_auroc(labels, scores), low, high)


def _score_out_of_fold(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the logit of each row from a model that was not trained on the row's group.

    The logit is NaN if no such model could be trained.
    """
    scores = np.full(len(labels), np.nan)
    folds = min(_FOLDS, len(np.unique(groups)))
    if folds < 2:
        return scores
    for train, held_out in GroupKFold(folds).split(features, labels, groups):
        if len(np.unique(labels[train])) == 2:
            # Strongly regularised: a thumbnail often has more features than there are slices.
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=300)
            )
            # The score of a regularised model is good enough even if the fit has not converged.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(features[train], labels[train])
            # Logits of several models are ranked together, which is rough, but treats all features
            # alike.
            scores[held_out] = model.decision_function(features[held_out])
    return scores


def _find_interval(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, seed: int
) -> tuple[float, float]:
    """Return the 2.5 and 97.5 % quantiles of the AUROC over resampled groups."""
    weights = draw_weights(group_codes(groups, len(labels)), _RESAMPLES, seed)
    drawn = [area_under_roc(rank(labels, scores, part)) for part in weights]
    found = np.concatenate(drawn or [np.empty(0)])
    found = found[np.isfinite(found)]
    # If no resample has both classes, nothing is known, so the interval is as wide as possible.
    if not len(found):
        return 0.0, 1.0
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
