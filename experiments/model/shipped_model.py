"""Evaluate trained models on unseen synthetic patients, by fracture width.

    python -m experiments.model.shipped_model [--model models …] [--patients 1200] [--seed 1002]
        [--fractured-share 0.5] [--normal-patients 0.25]
        [--cache DIR] [--resamples 1000]

Give one model per training seed. The report has figures of each model, and the means of the main
ones. Slices take the path of a served request: image checks, vertebra finder, crop, engine at f32,
and the model's own calibration and gate.

AUROC is by slice; the fractures of each width band are compared with all normal slices. Beside it
stands the AUROC of an ideal observer, who knows the fracture and the noise exactly. Intervals are
by bootstrap over patients; for a mean over models, each resample takes the same patients for all
models. By default half of the slices and three quarters of the patients are fractured, as in
training. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from cspine.decide.policy import DecisionPolicy
from cspine.evaluate.metrics import auroc_by_width, compute_metrics, width_bands
from cspine.model.engine.engine import Engine
from cspine.model.store.registry import ModelFiles, resolve_version
from cspine.model.store.weights_file import read_h5
from cspine.phantom.config import PhantomConfig
from experiments.model.model_figures import (
    Answers,
    balanced_error,
    conformal_coverage,
    ece_at_share,
    mean_auroc_by_width,
    mean_balanced_error,
)
from experiments.phantom.crops import Crops, load_crops


def answer(files: ModelFiles, crops: Crops) -> Answers:
    """Return the model's answers for every crop, at f32."""
    contents = read_h5(files.h5)
    policy = DecisionPolicy.from_parts(contents.decision, contents.arrays)
    output = Engine.load(files, "f32").infer(crops.images)
    return Answers(policy, policy.decide(output.logit, output.embedding, crops.image_ok))


def describe_model(
    card: Mapping[str, Any], answers: Answers, crops: Crops, resamples: int
) -> dict[str, Any]:
    """Return all figures of one model."""
    policy, said = answers.policy, answers.decisions
    cut, total = policy.threshold.value, int(crops.slices[0])
    figures = compute_metrics(crops.labels, said.probability, cut, crops.groups, resamples)
    bands = auroc_by_width(
        crops.labels, said.probability, crops.widths_mm, crops.groups, cut, resamples
    )
    predictions = np.array(said.prediction)
    named = predictions != "uncertain"
    return {
        "model": card["version"],
        "training_seed": card["seeds"]["training"],
        "figures": {name: one.to_dict() for name, one in figures.items()},
        "by_width": {
            band.name: {
                "auroc": band.auroc.to_dict(),
                "sensitivity": band.sensitivity.to_dict(),
                "fractures": band.fractures,
            }
            for band in bands
        },
        "fractured_share": float(crops.labels.mean()),
        "ece_at_this_share": ece_at_share(card, answers, crops, resamples).to_dict(),
        "balanced_error_at_threshold": balanced_error(answers, crops, resamples).to_dict(),
        "conformal": conformal_coverage(said.probability, crops, policy.conformal.alpha),
        # `total` includes slices without a vertebra, which are refused as well.
        "refused_share": float((total - said.in_distribution.sum()) / total),
        "refused_by_picture_checks": float((~crops.image_ok).mean()),
        "uncertain_share": float(1 - named.sum() / total),
        "wrong_share_of_named": float(
            ((predictions == "fracture")[named] != crops.labels[named]).mean()
        ),
    }


def ideal_by_width(crops: Crops) -> dict[str, float]:
    """Return the ideal observer's mean AUROC over the fractures of each band that is not empty."""
    found = {}
    for name, low, high in width_bands():
        inside = (crops.widths_mm >= low) & (crops.widths_mm < high)
        if inside.any():
            found[name] = float(crops.ideal[inside].mean())
    return found


def main() -> None:
    """Render or load the crops, run every model, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, nargs="+", default=[Path("models")])
    parser.add_argument("--patients", type=int, default=1200, help="unseen synthetic patients")
    add = parser.add_argument
    add("--seed", type=int, default=1002, help="must not be a training set's seed")
    add("--fractured-share", type=float, default=0.5, help="share of fractured slices")
    add("--normal-patients", type=float, default=0.25, help="share of patients without a fracture")
    add("--cache", type=Path, help="folder in which rendered crops are kept")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples")
    arguments = parser.parse_args()
    models = [resolve_version(folder) for folder in arguments.model]
    if any(files.card["seeds"]["phantom"] == arguments.seed for files in models):
        parser.error("--seed must differ from the seed that a model was trained on")
    # All models use the same crops, so that a mean over models is over the same slices.
    views = {(files.card["view"], files.card["image_size"]) for files in models}
    if len(views) != 1:
        parser.error("the models must share view and image size")
    config = PhantomConfig(
        patients=arguments.patients,
        seed=arguments.seed,
        fractured_share=arguments.fractured_share,
        normal_patients=arguments.normal_patients,
    )
    crops = load_crops(config, *views.pop(), arguments.cache)
    answers = [answer(files, crops) for files in models]
    each = [
        describe_model(files.card, said, crops, arguments.resamples)
        for files, said in zip(models, answers, strict=True)
    ]
    probabilities = [said.decisions.probability for said in answers]
    by_width = mean_auroc_by_width(probabilities, crops, arguments.resamples)
    fractured = np.unique(crops.groups[crops.labels == 1])
    report = {
        "machine": describe_machine(),
        "phantom": config.version,
        "seed": arguments.seed,
        "patients": arguments.patients,
        "fractured_patients": len(fractured),
        "slices": int(crops.slices[0]),
        "fractures": int(crops.labels.sum()),
        "slices_without_vertebra": int(crops.slices[0]) - len(crops),
        "mean_over_models": {
            "models": len(models),
            "auroc_by_width": {name: one.to_dict() for name, one in by_width.items()},
            "ideal_observer_auroc_by_width": ideal_by_width(crops),
            "balanced_error_at_threshold": mean_balanced_error(
                answers, crops, arguments.resamples
            ).to_dict(),
            "ece": float(np.mean([one["figures"]["ece"]["value"] for one in each])),
            "ece_at_this_share": float(
                np.mean([one["ece_at_this_share"]["value"] for one in each])
            ),
            "refused_share": float(np.mean([one["refused_share"] for one in each])),
        },
        "each": each,
    }
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
