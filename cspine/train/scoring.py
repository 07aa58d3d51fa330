"""From fitted candidates to figures: the decision parts, and every figure on every split.

The decision parts are fitted on held-out slices alone; the test set is scored here, once, after the
best candidate is known. It knows no files and no card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cspine.core.errors import DataError
from cspine.core.train_config import TrainConfig
from cspine.data.crop_cache import load_samples
from cspine.data.samples import Samples
from cspine.decide.calibration import fit_calibration
from cspine.decide.conformal import fit_conformal
from cspine.decide.image_checks import check_image
from cspine.decide.out_of_distribution import InDistribution, fit_distance
from cspine.decide.policy import DecisionPolicy, Decisions
from cspine.decide.study_score import SeriesScore, fit_series
from cspine.decide.threshold import choose_threshold
from cspine.evaluate.metrics import auroc_by_width, compute_metrics, describe_patients
from cspine.evaluate.report.inputs import SplitScores
from cspine.evaluate.unlocalised_studies import describe_unboxed_studies
from cspine.train.candidates import Candidate, RunContext, load_side
from cspine.train.network_outputs import Outputs, run_network

OUT_OF_FOLD = "out-of-fold"


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate with its policy, its answers on each split and the figures on them.

    `figures` is split → metric → {value, low, high}; `samples` are by split too.
    """

    candidate: Candidate
    policy: DecisionPolicy
    samples: Mapping[str, Samples]
    splits: Sequence[SplitScores]
    figures: dict[str, dict[str, Any]]


def score_candidate(candidate: Candidate, task: RunContext) -> ScoredCandidate:
    """Fit the decision parts of one candidate on held-out slices and score it on every split."""
    config = task.config
    # Without twins: nobody is served one, and figures on them would flatter.
    train = candidate.train.take(~candidate.train.is_twin)
    samples = {"train": train}
    if task.split.folds is None:
        size = candidate.classifier.image_size
        samples["validation"] = candidate.held_out
        if task.split.test:
            samples["test"] = load_side(task, task.split.test, size)
    outputs = {name: run_network(candidate.classifier, side) for name, side in samples.items()}
    # The same for every candidate, so that the leaderboard compares like with like.
    policy = fit_policy(candidate, fit_gate(candidate, outputs, config), config)
    if candidate.distances is None:
        splits = [_score_split(name, samples[name], outputs[name], policy) for name in samples]
    else:
        # Figures are of answers by networks that had not seen the slice, and of no others.
        samples = {OUT_OF_FOLD: candidate.held_out}
        splits = [_score_folds(candidate, candidate.distances, policy)]
    held_out = next(split for split in splits if split.name in ("validation", OUT_OF_FOLD))
    # After the gate has answered: serving scores a study without the slices that it finds strange.
    policy = replace(policy, series=_fit_series(held_out, config))
    figures = {split.name: _figures(split, policy, config) for split in splits}
    return ScoredCandidate(candidate, policy, samples, splits, figures)


def fit_gate(
    candidate: Candidate, outputs: Mapping[str, Outputs], config: TrainConfig
) -> InDistribution:
    """The gate of the candidate's network, its threshold from slices that were not learned from."""
    known, quantile = outputs["train"].embeddings, config.in_distribution_quantile
    if candidate.distances is None:
        return fit_distance(known, quantile, outputs["validation"].embeddings)
    # With folds this network has seen every slice, so those that had not must say how far is far.
    return fit_distance(known, quantile).with_threshold(candidate.distances)


def fit_policy(candidate: Candidate, gate: InDistribution, config: TrainConfig) -> DecisionPolicy:
    """Calibration, threshold and conformal sets from the held-out logits; no series score yet."""
    labels, groups = candidate.held_out.labels, candidate.held_out.groups
    calibration = fit_calibration(candidate.logits, labels, groups)
    probabilities = calibration.apply(candidate.logits)
    # On calibrated probabilities, since that is what the threshold is compared with.
    method, target = config.threshold_method, config.target_sensitivity
    return DecisionPolicy(
        calibration,
        choose_threshold(probabilities, labels, method, target),
        fit_conformal(probabilities, labels, config.conformal_alpha),
        gate,
    )


def _fit_series(held_out: SplitScores, config: TrainConfig) -> SeriesScore | None:
    """The series score, or None where the patients are all of one kind."""
    method, target = config.threshold_method, config.target_sensitivity
    try:
        return fit_series(
            held_out.study_probabilities(), held_out.groups, held_out.labels, method, target
        )
    # Then there is no score by patient, which the card says by leaving it out.
    except DataError:
        return None


def _score_split(
    name: str, samples: Samples, outputs: Outputs, policy: DecisionPolicy
) -> SplitScores:
    # The served answer, not a kinder one: serving refuses a picture that fails the checks.
    answers = policy.decide(outputs.logits, outputs.embeddings, samples.image_ok)
    return _make_scores(name, samples, answers)


def _score_folds(
    candidate: Candidate, distances: np.ndarray, policy: DecisionPolicy
) -> SplitScores:
    samples = candidate.held_out
    # The shipped network finds nothing strange that it learned from: it is not asked.
    known = distances <= policy.in_distribution.threshold
    answers = policy.decide_known(candidate.logits, known, samples.image_ok)
    return _make_scores(OUT_OF_FOLD, samples, answers)


def _make_scores(name: str, samples: Samples, answers: Decisions) -> SplitScores:
    widths = samples.widths_mm if np.isfinite(samples.widths_mm).any() else None
    return SplitScores(
        name,
        samples.labels,
        answers.probability,
        samples.groups,
        widths,
        answers.prediction,
        answers.in_distribution,
    )


def _figures(split: SplitScores, policy: DecisionPolicy, config: TrainConfig) -> dict[str, Any]:
    """Every slice-level metric of one split, as JSON values."""
    arguments = (split.labels, split.probabilities)
    cut, resamples = policy.threshold.value, config.resamples
    found = compute_metrics(*arguments, cut, split.groups, resamples, config.seed)
    return {name: interval.to_dict() for name, interval in found.items()}


def detail_figures(judged: ScoredCandidate, config: TrainConfig) -> dict[str, Any]:
    """By split: width bands (phantoms) and patient-level metrics, as JSON values."""
    details: dict[str, Any] = {}
    cut = judged.policy.threshold.value
    for split in judged.splits:
        part: dict[str, Any] = {}
        labels, probabilities, groups = split.labels, split.probabilities, split.groups
        if split.widths_mm is not None:
            bands = auroc_by_width(
                labels, probabilities, split.widths_mm, groups, cut, config.resamples
            )
            part["by_width"] = {
                band.name: {
                    "auroc": band.auroc.to_dict(),
                    "sensitivity": band.sensitivity.to_dict(),
                    "fractures": band.fractures,
                    "patients": band.patients,
                }
                for band in bands
            }
        if judged.policy.series is not None:
            part |= describe_patients(
                labels,
                split.study_probabilities(),
                groups,
                judged.policy.series,
                config.resamples,
                config.seed,
            )
        # Beside the figures: a model that abstains often looks better on what is left.
        predictions = np.asarray(split.predictions)
        part["uncertain_share"] = float((predictions == "uncertain").mean())
        part["in_distribution_share"] = float(np.mean(np.asarray(split.in_distribution)))
        details[split.name] = part
    return details


def score_unlocalised(best: ScoredCandidate, task: RunContext) -> dict[str, Any]:
    """Return what `describe_unboxed_studies` does, beside the last split.

    Empty where there are no such studies, or no series score.
    """
    series, config, studies = best.policy.series, task.config, task.dataset.unboxed_studies
    if series is None or not studies:
        return {}
    return describe_unboxed_studies(
        len(studies),
        _run_unboxed(best, task),
        best.splits[-1],
        series,
        config.resamples,
        config.seed,
    )


def _run_unboxed(best: ScoredCandidate, task: RunContext) -> SplitScores:
    """The policy's answers on the slices of such studies in which a vertebra is found."""
    classifier, dataset = best.candidate.classifier, task.dataset
    records, cache = dataset.unboxed_with_labels(), Path(task.config.cache)
    samples = load_samples(
        dataset, records, task.view, classifier.image_size, cache, check=check_image
    )
    # A vertebra may be found in none of a few slices.
    if len(samples) == 0:
        return SplitScores("unboxed", samples.labels, samples.labels, samples.groups)
    outputs = run_network(classifier, samples)
    answers = best.policy.decide(outputs.logits, outputs.embeddings, samples.image_ok)
    return SplitScores(
        "unboxed",
        samples.labels,
        answers.probability,
        samples.groups,
        in_distribution=answers.in_distribution,
    )
