"""Compare the published training recipe (the rival) with ours on the same patients and slices.

    python -m experiments.data.published [--patients 150] [--seed 1] [--unseen 300]
        [--unseen-seed 1005] [--model DIR …] [--time-limit 20m] [--seeds 0] [--copies 20]
        [--claim-patients N] [--cache DIR] [--rival-only]

The rival learns from the export in the published layout, 224² pixels
with copies. Our model learns from the grouped export of the same seed, 512² pixels, in its default
view. It is trained here, or `--model` names folders of models trained on that same set, which their
cards must confirm. Unseen patients come from another seed.

`claimed_by_file_split` holds the rival's accuracy at 0.5 on a random tenth of the files, held out
before training; with `--claim-patients N`, of the files of N patients with all their copies.
`unseen` holds the rival's scores on new patients.

`errors` are 1 − balanced accuracy, with fractures ≥ 1 mm against all normal slices and abstention
off. The threshold was chosen on validation by the rule in the model's card and, if the model has a
report, also by the other rule. A slice in which our model finds no vertebra counts as an error.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_DETERMINISTIC_OPS"] = "1"

import numpy as np

from benchmarks.machine import describe_machine
from cspine.decide.policy import DecisionPolicy
from cspine.decide.threshold import METHODS
from cspine.evaluate.metrics import compute_metrics
from cspine.evaluate.report.inputs import INPUTS_FILE
from cspine.model.engine.engine import Engine
from cspine.model.store.registry import resolve_version
from cspine.model.store.weights_file import read_h5
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.grouped import write_grouped
from cspine.phantom.writers.kaggle_layout import write_kaggle
from experiments.data.our_training import RESAMPLES, Called, call, read_split, train_ours
from experiments.data.published_network import SIDE_PX, Files, Rival, claim, fit_rival, read_files
from experiments.model.model_figures import Truth, bootstrap, error_of
from experiments.phantom.crops import Crops, load_crops

COPIES = 20  # of each slice in the published set


def answer_ours(
    model: Path, unseen: PhantomConfig, whole: Crops, cache: Path | None
) -> tuple[np.ndarray, Called]:
    """Return our probabilities and calls for every slice of `whole`.

    A probability is NaN if no vertebra was found; the call then is the wrong one.
    """
    files = resolve_version(model)
    contents = read_h5(files.h5)
    policy = DecisionPolicy.from_parts(contents.decision, contents.arrays)
    crops = load_crops(unseen, files.card["view"], files.card["image_size"], cache)
    found = policy.calibration.apply(Engine.load(files, "f32").infer(crops.images).logit)
    probabilities = np.full(len(whole), np.nan)
    probabilities[crops.indices] = found
    called = {}
    if (model / "report" / INPUTS_FILE).is_file():  # a shipped folder has no report
        validation = read_split(model, "validation")
        called = call(probabilities, (validation.probabilities, validation.labels))
    called[policy.threshold.method] = policy.threshold.apply(probabilities)
    wrong, missing = whole.labels == 0, np.isnan(probabilities)
    return probabilities, {rule: np.where(missing, wrong, it) for rule, it in called.items()}


def check_models(models: list[Path], arguments: argparse.Namespace) -> None:
    """Check that the models learned from the rival's patients and not from the unseen ones.

    Raises:
        SystemExit: a model did not.
    """
    for model in models:
        card = resolve_version(model).card
        seed, patients = card["seeds"]["phantom"], card["data"]["patients"]
        if seed == arguments.unseen_seed:
            raise SystemExit(
                f"`--unseen-seed` must differ from the seed of {model}. Received: {seed}"
            )
        if card["data"]["layout"] != "phantom" or (seed, patients) != (
            arguments.seed,
            arguments.patients,
        ):
            wanted = f"{arguments.patients} patients of phantom seed {arguments.seed}"
            received = f"{patients} of seed {seed}, layout {card['data']['layout']}"
            raise SystemExit(f"{model} must be trained on {wanted}. Received: {received}")


def describe_rival(rival: Rival, probabilities: np.ndarray, truth: Truth) -> dict[str, Any]:
    """Return the rival's scores on unseen patients at threshold 0.5, each with its interval."""
    names = ("accuracy", "auroc", "recall", "specificity")
    figures = compute_metrics(truth.labels, probabilities, 0.5, truth.groups, RESAMPLES)
    return {
        "best_epoch": rival.best_epoch,
        "validation_accuracy": rival.accuracy,
        "unseen": {name: figures[name].to_dict() for name in names},
    }


def compare_errors(rivals: list[Called], ours: list[Called], truth: Truth) -> dict[str, Any]:
    """Return mean errors over seeds and the ratio of ours to the rival's, with intervals.

    By rule of the threshold; only the rules for which all our models have calls.
    """
    found = {}
    for rule in (rule for rule in METHODS if all(rule in one for one in ours)):

        def mean(models: list[Called], weights: np.ndarray, rule: str = rule) -> np.ndarray:
            return np.mean([error_of(one[rule], truth, weights) for one in models], axis=0)

        sides = {"rival": lambda w: mean(rivals, w)}
        if ours:
            sides |= {
                "ours": lambda w: mean(ours, w),
                "ratio": lambda w: mean(ours, w) / mean(rivals, w),
            }
        found[rule] = {
            name: bootstrap(side, truth.groups, RESAMPLES).to_dict() for name, side in sides.items()
        }
    return found


def run_phantoms(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the comparison on synthetic patients."""
    check_models(models := list(arguments.model), arguments)
    config = PhantomConfig(
        patients=arguments.patients, seed=arguments.seed, variants=arguments.copies > 0
    )
    files = read_published(folder / "published", config, arguments.copies)
    unseen = PhantomConfig(patients=arguments.unseen, seed=arguments.unseen_seed)
    whole = load_crops(unseen, "published", SIDE_PX, arguments.cache)
    claimed_on = files
    if arguments.claim_patients:
        few = PhantomConfig(patients=arguments.claim_patients, seed=arguments.seed, variants=True)
        claimed_on = read_published(folder / "claim", few)
    claimed = claim(claimed_on, arguments.seeds[0], arguments.epochs)
    rivals, rival_calls = [], []
    for seed in arguments.seeds:
        rival = fit_rival(files, seed, arguments.epochs)
        said = rival.predict(whole.images)
        rivals.append({"seed": seed, **describe_rival(rival, said, whole)})
        rival_calls.append(call(said, (rival.probabilities, rival.validation.labels)))
    if not models and not arguments.rival_only:
        grouped = write_grouped(
            folder / "grouped", PhantomConfig(patients=config.patients, seed=config.seed)
        )
        models = [folder / f"models-{seed}" for seed in arguments.seeds]
        for seed, model in zip(arguments.seeds, models, strict=True):
            limit = ("--time-limit", arguments.time_limit)
            train_ours(grouped, model, seed, "--architectures", "cnn", *limit)
    ours = [answer_ours(model, unseen, whole, arguments.cache) for model in models]
    return {
        "patients": config.patients,
        "seed": config.seed,
        "copies_a_slice": arguments.copies,
        "files": len(files.labels),
        "unseen_patients": unseen.patients,
        "unseen_seed": unseen.seed,
        "unseen_slices": len(whole),
        "claimed_by_file_split": claimed,
        "rival": rivals,
        "ours": [
            {
                "model": resolve_version(model).card["version"],
                "training_seed": resolve_version(model).card["seeds"]["training"],
                "without_vertebra": int(np.isnan(said).sum()),
            }
            for model, (said, _) in zip(models, ours, strict=True)
        ],
        "errors": compare_errors(rival_calls, [called for _, called in ours], whole),
    }


def read_published(folder: Path, config: PhantomConfig, copies: int = COPIES) -> Files:
    """Write a set in the published layout and read it back, with `copies` copies of each slice."""
    return read_files(write_kaggle(folder, config)).keep_copies(copies)


def main() -> None:
    """Run the comparison and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--patients", type=int, default=150, help="synthetic patients to learn from")
    add("--seed", type=int, default=1, help="seed of these patients")
    add("--unseen", type=int, default=300, help="number of unseen patients")
    add("--unseen-seed", type=int, default=1005, help="seed of the unseen patients")
    add("--model", type=Path, nargs="+", default=[], help="folders of our trained models")
    add("--time-limit", default="20m", help="time limit of our training, if no --model is given")
    add("--seeds", type=int, nargs="+", default=[0], help="seeds of the trainings")
    add("--copies", type=int, default=COPIES, help="copies of each slice that the rival gets")
    add("--claim-patients", type=int, help="patients of the claimed accuracy; default: all")
    add("--epochs", type=int, default=20, help="the rival's epochs; the published number is 20")
    add("--cache", type=Path, help="folder in which rendered slices are kept")
    add("--rival-only", action="store_true", help="do not train our model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run_phantoms(arguments, Path(folder))
    about = {"machine": describe_machine(), "epochs": arguments.epochs}
    print(json.dumps(about | report, indent=1))


if __name__ == "__main__":
    main()
