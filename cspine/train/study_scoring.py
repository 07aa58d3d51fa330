"""The shipped network's answers on fractured studies without boxes (RSNA), for their figures.

They are in no split, and no network learned from them. It fits nothing and writes no file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cspine.data.crop_cache import load_samples
from cspine.decide.image_checks import check_image
from cspine.evaluate.report.inputs import SplitScores
from cspine.evaluate.unlocalised_studies import describe_unboxed_studies
from cspine.train.candidates import RunContext
from cspine.train.network_outputs import run_network
from cspine.train.scoring import ScoredCandidate


def score_unlocalised(best: ScoredCandidate, task: RunContext) -> dict[str, Any]:
    """Return what `describe_unboxed_studies` does, beside the last split.

    Empty where there are no such studies, or no series score.
    """
    series, config, studies = best.policy.series, task.config, task.dataset.unboxed_studies
    if series is None or not studies:
        return {}
    return describe_unboxed_studies(
        len(studies), _run_unboxed(best, task), best.splits[-1], series,
        config.resamples, config.seed,
    )  # fmt: skip


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
        "unboxed", samples.labels, answers.probability, samples.groups,
        in_distribution=answers.in_distribution,
    )  # fmt: skip
