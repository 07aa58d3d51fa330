"""The decision policy of a fitted candidate, and its figures on every split.

The policy is fitted only on held-out slices. The test set is scored here, once, after the best
candidate has been chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cspine.core.errors import DataError
from cspine.core.train_config import TrainConfig
from cspine.data.samples import Samples
from cspine.decide.calibration import fit_calibration
from cspine.decide.conformal import fit_conformal
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
    """A candidate with its policy, its answers on each split and the figures of these answers.

    `figures` is split → metric → {value, low, high}; `samples` are by split as well.
    """

    candidate: Candidate
    policy: DecisionPolicy
    samples: Mapping[str, Samples]
    splits: Sequence[SplitScores]
    figures: dict[str, dict[str, Any]]


def score_candidate(candidate: Candidate, context: RunContext) -> ScoredCandidate:
    """Fit the policy of one candidate on held-out slices and score it on every split."""
    config, split = context.config, context.split
    side = OUT_OF_FOLD if split.folds is not None else "validation"
    samples = {"train": _take_training_side(candidate, context), side: candidate.held_out}
    if split.test:
        samples["test"] = load_side(context, split.test, candidate.classifier.image_size)
    outputs = {
        name: run_network(candidate.classifier, s.images)
        for name, s in samples.items()
        if name != side or candidate.distances is None
    }
    in_distribution = fit_in_distribution(candidate, outputs, config)
    # Every candidate gets a policy in the same way, so that the leaderboard is a fair comparison.
    policy = fit_policy(candidate, in_distribution, config)
    if split.folds is not None:
        # All figures are of answers by networks that had not learned from the slice.
        del samples["train"]
    splits = [
        score_split(name, samples[name], outputs[name], policy)
        if name in outputs
        else _score_held_out(name, candidate, policy)
        for name in samples
    ]
    held_out = next(one for one in splits if one.name == side)
    # Fitted after the answers, since a study is scored without its out-of-distribution slices.
    policy = replace(policy, series=fit_series_score(held_out, config))
    figures = {one.name: _figures(one, policy, config) for one in splits}
    return ScoredCandidate(candidate, policy, samples, splits, figures)


def _take_training_side(candidate: Candidate, context: RunContext) -> Samples:
    """Return the candidate's samples of the split's training side, without twins.

    Twins (the same slices without their fractures) would make the figures too good, and no service
    receives them. A candidate may have learned from the validation side too.
    """
    samples, validation = candidate.train, {one.path for one in context.split.validation}
    chosen = ~samples.is_twin
    if validation:
        chosen &= np.array([record.path not in validation for record in samples.records])
    return samples.take(chosen)


def fit_in_distribution(
    candidate: Candidate, outputs: Mapping[str, Outputs], config: TrainConfig
) -> InDistribution:
    """Fit distances of the candidate's network; held-out slices set their threshold."""
    known, quantile = outputs["train"].embeddings, config.in_distribution_quantile
    if candidate.distances is None:
        return fit_distance(known, quantile, outputs["validation"].embeddings)
    # This network learned from the held-out slices, so the networks that did not set the threshold.
    return fit_distance(known, quantile).with_threshold(candidate.distances)


def fit_policy(
    candidate: Candidate, in_distribution: InDistribution, config: TrainConfig
) -> DecisionPolicy:
    """Fit calibration, threshold and conformal sets on held-out logits, without a series score."""
    labels, groups = candidate.held_out.labels, candidate.held_out.groups
    calibration = fit_calibration(candidate.logits, labels, groups)
    probabilities = calibration.apply(candidate.logits)
    # Fitted on calibrated probabilities, since the threshold is compared with these.
    method, target = config.threshold_method, config.target_sensitivity
    return DecisionPolicy(
        calibration=calibration,
        threshold=choose_threshold(probabilities, labels, method, target),
        conformal=fit_conformal(probabilities, labels, config.conformal_alpha),
        in_distribution=in_distribution,
    )


def fit_series_score(held_out: SplitScores, config: TrainConfig) -> SeriesScore | None:
    """Return the series score, or None if all patients are of one class."""
    method, target = config.threshold_method, config.target_sensitivity
    try:
        return fit_series(
            held_out.study_probabilities(), held_out.groups, held_out.labels, method, target
        )
    # Without a series score, the card has no figures by patient.
    except DataError:
        return None


def score_split(
    name: str, samples: Samples, outputs: Outputs, policy: DecisionPolicy
) -> SplitScores:
    """Return the network's answers as in the service, which refuses images that fail its checks."""
    answers = policy.decide(outputs.logits, outputs.embeddings, samples.image_ok)
    return _make_scores(name, samples, answers)


def _score_held_out(name: str, candidate: Candidate, policy: DecisionPolicy) -> SplitScores:
    # The given distances are used, since the candidate's network learned from these slices and
    # would find none of them far from its training data.
    known = np.asarray(candidate.distances) <= policy.in_distribution.threshold
    answers = policy.decide_known(candidate.logits, known, candidate.held_out.image_ok)
    return _make_scores(name, candidate.held_out, answers)


def _make_scores(name: str, samples: Samples, answers: Decisions) -> SplitScores:
    return SplitScores(
        name=name,
        labels=samples.labels,
        probabilities=answers.probability,
        groups=samples.groups,
        widths_mm=samples.widths_mm if np.isfinite(samples.widths_mm).any() else None,
        predictions=answers.prediction,
        in_distribution=answers.in_distribution,
    )


def _figures(split: SplitScores, policy: DecisionPolicy, config: TrainConfig) -> dict[str, Any]:
    """Return every slice-level metric of one split, as JSON values."""
    arguments = split.labels, split.probabilities, policy.threshold.value, split.groups
    found = compute_metrics(*arguments, config.resamples, config.seed)
    return {name: interval.to_dict() for name, interval in found.items()}


def detail_figures(scored: ScoredCandidate, config: TrainConfig) -> dict[str, Any]:
    """Return, by split, figures by fracture width (phantoms) and by patient, and slice shares."""
    details: dict[str, Any] = {}
    threshold, series = scored.policy.threshold.value, scored.policy.series
    for split in scored.splits:
        part: dict[str, Any] = {}
        labels, probabilities, groups = split.labels, split.probabilities, split.groups
        if split.widths_mm is not None:
            bands = auroc_by_width(
                labels, probabilities, split.widths_mm, groups, threshold, config.resamples
            )
            names = ("auroc", "sensitivity", "fractures", "patients")
            part["by_width"] = {one.name: {n: vars(one)[n] for n in names} for one in bands}
        if series is not None:
            scores = split.study_probabilities()
            part |= describe_patients(labels, scores, groups, series, config.resamples, config.seed)
        # Reported beside the figures, since a model that often abstains looks better on the rest.
        part["uncertain_share"] = float((np.asarray(split.predictions) == "uncertain").mean())
        part["in_distribution_share"] = float(np.mean(np.asarray(split.in_distribution)))
        details[split.name] = part
    return details


def score_unboxed(best: ScoredCandidate, context: RunContext) -> dict[str, Any]:
    """Score studies without bounding boxes, and compare them with the last split.

    Returns the result of `describe_unboxed_studies`, or an empty dict if there are no such studies
    or no series score.
    """
    series, config, dataset = best.policy.series, context.config, context.dataset
    if series is None or not dataset.unboxed_studies:
        return {}
    classifier = best.candidate.classifier
    samples = context.load(dataset.unboxed_with_labels(), classifier.image_size)
    # There may be no image, if no vertebra is found, and a network needs at least one.
    if len(samples):
        outputs = run_network(classifier, samples.images)
        unboxed = score_split("unboxed", samples, outputs, best.policy)
    else:
        unboxed = SplitScores("unboxed", samples.labels, samples.labels, samples.groups)
    return describe_unboxed_studies(
        len(dataset.unboxed_studies),
        unboxed,
        best.splits[-1],
        series,
        config.resamples,
        config.seed,
    )
