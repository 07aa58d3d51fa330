"""Compare the published recipe with ours on the same patients and slices, in one run.

    python -m experiments.data.published [--patients 150] [--seed 1] [--unseen 300]
        [--unseen-seed 1005] [--model DIR …] [--time-limit 20m] [--seeds 0] [--copies 20]
        [--claim-patients N] [--cache DIR] [--rival-only]

On phantoms the rival reads the 224² published-layout export with its copies, ours, in its default
view, the grouped 512² export of the same seed. Ours is trained here, or `--model` names folders
trained on that very set (their cards are checked); unseen patients are those of a further seed.
`claimed` is the rival's accuracy at 0.5 on a random tenth of the files (or N patients' with their
copies), `unseen` that on new patients. Errors are 1 − balanced accuracy, fractures ≥ 1 mm against
all normal slices, abstention off, at a threshold chosen on validation by the card's rule and, where
the report is there, the other. Where ours finds no vertebra it errs.
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
    """Our probabilities, NaN without a vertebra, and calls on every slice of `whole`."""
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
    """Refuse models of other patients than the rival's, or that saw the unseen ones."""
    for model in models:
        card = resolve_version(model).card
        seed, patients = card["seeds"]["phantom"], card["data"]["patients"]
        if seed == arguments.unseen_seed:
            raise SystemExit(f"{model} was trained on the seed of the unseen patients")
        if card["data"]["layout"] != "phantom" or (seed, patients) != (
            arguments.seed,
            arguments.patients,
        ):
            raise SystemExit(f"{model} was trained on {patients} patients of seed {seed}")


def describe_rival(rival: Rival, probabilities: np.ndarray, truth: Truth) -> dict[str, Any]:
    """The rival's figures on unseen patients at 0.5, each with its interval."""
    names = ("accuracy", "auroc", "recall", "specificity")
    figures = compute_metrics(truth.labels, probabilities, 0.5, truth.groups, RESAMPLES)
    return {
        "best_epoch": rival.best_epoch,
        "validation_accuracy": rival.accuracy,
        "unseen": {name: figures[name].to_dict() for name in names},
    }


def compare_errors(rivals: list[Called], ours: list[Called], truth: Truth) -> dict[str, Any]:
    """By rule that all know: mean errors over seeds, ours over the rival's, with intervals."""
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
    """Both on synthetic patients."""
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
    """Write the published-layout export and read it back, each slice with so many copies."""
    return read_files(write_kaggle(folder, config)).keep_copies(copies)


def main() -> None:
    """Run the comparison and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unseen", type=int, default=300, help="unseen patients")
    parser.add_argument("--unseen-seed", type=int, default=1005)
    parser.add_argument("--model", type=Path, nargs="+", default=[])
    parser.add_argument("--time-limit", default="20m", help="of our training, where it is done")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--copies", type=int, default=COPIES, help="of each slice's 20 copies")
    parser.add_argument("--claim-patients", type=int, help="patients of the claim; default: all")
    parser.add_argument("--epochs", type=int, default=20, help="of the rival; published: 20")
    parser.add_argument("--cache", type=Path, help="where rendered slices are kept")
    parser.add_argument("--rival-only", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run_phantoms(arguments, Path(folder))
    about = {"machine": describe_machine(), "epochs": arguments.epochs}
    print(json.dumps(about | report, indent=1))


if __name__ == "__main__":
    main()
