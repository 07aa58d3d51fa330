"""Play the published protocol on real slices, and leave out every series in turn.

    python -m experiments.data.published_protocol --data DIR --work DIR [--seeds 0 1 2]
        [--architectures cnn …] [--weights DIR|none] [--left-out-seeds 0 …]

`--data` holds the published originals in `train/` and `val/`, each with `fracture/` and `normal/`;
`val` is the published test folder. Twenty copies of each are made as the published ones were. As
published, the first fifth of each class's training files by name is validation.

For each seed, the published network and ours learn from the same files and are tested on the same
copies of the originals in `val`, which choose nothing: no setting, epoch, threshold or candidate.
Then each series is left out in turn, and all are scored on its originals. The published network
learns from the copies of the other series, ours from their originals.

Runs are kept in `--work`, so a second call goes on where the first one ended.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_DETERMINISTIC_OPS"] = "1"

import numpy as np
from PIL import Image

from benchmarks.machine import describe_machine
from cspine.core.atomic_write import written_folder, written_whole
from cspine.core.labels import ARCHITECTURE_NAMES
from cspine.core.progress import progress
from cspine.evaluate.metrics import compute_metrics
from cspine.evaluate.report.inputs import INPUTS_FILE, load_inputs
from cspine.model.store.card import CARD_NAME
from cspine.model.store.registry import resolve_version
from cspine.phantom.writers.kaggle_layout import make_variants
from experiments.data.our_training import train_ours
from experiments.data.published_network import EPOCHS, SIDE_PX, fit_rival, read_files

FOLDER = "cervical fracture"
FIGURES = ("accuracy_at_half", "accuracy", "auroc", "recall", "specificity")
WORTH = (
    "The test folder is 20 slices of one patient, with 20 copies of each: no interval by patient "
    "exists. In this set the label is the height in the neck, fracture above and normal below, so "
    "no figure shows that a network sees fractures. The training folder holds normal slices of the "
    "tested patient."
)


def add_copies(source: Path, out: Path) -> None:
    """Write the originals under `source`, each with 20 copies, in the published layout.

    Originals in a folder `val` become the test folder, all others the training folder.
    """
    with written_folder(out) as folder:
        for number, path in enumerate(progress(sorted(source.rglob("*.png")), "copies")):
            side = "val" if path.parent.parent.name == "val" else "train"
            place = folder / FOLDER / side / path.parent.name
            place.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as picture:
                copies = make_variants(picture.convert("L"), np.random.default_rng([0, number]))
            for suffix, copy in copies.items():
                small = copy.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
                small.convert("RGB").save(place / f"{path.stem}{suffix}.png", compress_level=1)


def score_published_network(tree: Path, seed: int, epochs: int) -> dict[str, Any]:
    """Fit the published network to the training folder; return its figures on the test folder."""
    rival = fit_rival(read_files(tree / FOLDER / "train"), seed, epochs)
    test = read_files(tree / FOLDER / "val")
    found = compute_metrics(test.labels, rival.predict(test.images), 0.5, test.groups)
    return {
        "validation_accuracy": rival.accuracy,
        "best_epoch": rival.best_epoch,
        **{name: found[name].value for name in FIGURES},
    }


def leave_out_of_published_network(tree: Path, seed: int, epochs: int) -> dict[str, Any]:
    """Return the published network's figures on the originals of the series that it did not see."""
    files = read_files(tree)
    probabilities = np.full(len(files.labels), np.nan)
    for series in np.unique(files.groups):
        is_left_out = files.groups == series
        rival = fit_rival(files.take(~is_left_out), seed, epochs)
        probabilities[is_left_out] = rival.predict(files.images[is_left_out])
    is_original = np.char.endswith(files.names, ")")
    originals = files.take(is_original)
    found = compute_metrics(originals.labels, probabilities[is_original], 0.5, originals.groups)
    return {name: found[name].value for name in FIGURES}


def compute_once(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON object in `path`, which `compute` makes if there is none."""
    if not path.is_file():
        with written_whole(path) as part:
            part.write_text(json.dumps(compute()), encoding="utf-8")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def read_candidates(model: Path, split: str) -> dict[str, Any]:
    """Return every candidate's figures on a split, and which one the training chose."""
    card = resolve_version(model).card
    inputs = load_inputs(model / "report" / INPUTS_FILE, card)
    figures = {
        name: {key: splits[split][key]["value"] for key in FIGURES}
        for name, splits in inputs.candidates.items()
    }
    held_out = {row["architecture"]: row["validation_auroc"] for row in inputs.leaderboard}
    return {
        "chosen": card["architecture"],
        "held_out_auroc": held_out,
        "seconds": {row["architecture"]: row["seconds"] for row in inputs.leaderboard},
        split: figures,
    }


def average(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and least value of each figure over the seeds."""
    return {
        name: {
            "mean": float(np.mean([run[name] for run in runs])),
            "least": float(np.min([run[name] for run in runs])),
        }
        for name in FIGURES
    }


def train_once(
    data: Path, model: Path, seed: int, arguments: argparse.Namespace, *flags: str
) -> None:
    """Train our candidates into the folder `model`, unless it holds a model already."""
    if not (model / CARD_NAME).is_file():
        chosen = ("--architectures", *arguments.architectures, "--weights", arguments.weights)
        train_ours(data, model, seed, *chosen, *flags)


def compare_seeds(
    arguments: argparse.Namespace,
    seeds: list[int],
    name: str,
    split: str,
    score_rival: Callable[[int], dict[str, Any]],
    train: Callable[[Path, int], None],
) -> dict[str, Any]:
    """Return the figures of the published network and of ours on `split`, for each seed.

    `name` starts the names of the kept files. `score_rival` maps a seed to the published network's
    figures; `train` trains our candidates into a folder.
    """
    rivals, ours = [], []
    for seed in seeds:
        kept = arguments.work / f"{name}-network-{seed}.json"
        rivals.append(compute_once(kept, partial(score_rival, seed)))
        model = arguments.work / f"{name}-{seed}"
        train(model, seed)
        ours.append(read_candidates(model, split))
    by_name = {one: average([run[split][one] for run in ours]) for one in arguments.architectures}
    chosen = average([run[split][run["chosen"]] for run in ours])
    return {
        "published_network": {"seeds": rivals, "average": average(rivals)},
        "ours": {"seeds": ours, "chosen": chosen, "by_architecture": by_name},
    }


def play_protocol(arguments: argparse.Namespace, tree: Path) -> dict[str, Any]:
    """Return the figures of the published network and of ours on the published test folder."""
    return compare_seeds(
        arguments,
        arguments.seeds,
        "published",
        "test",
        lambda seed: score_published_network(tree, seed, arguments.epochs),
        lambda model, seed: train_once(tree, model, seed, arguments, "--split", "published"),
    )


def leave_out_series(arguments: argparse.Namespace, tree: Path) -> dict[str, Any]:
    """Return pooled figures on the originals, each series scored by networks of the others."""
    return compare_seeds(
        arguments,
        arguments.left_out_seeds,
        "left-out",
        "out-of-fold",
        lambda seed: leave_out_of_published_network(tree, seed, arguments.epochs),
        lambda model, seed: train_once(arguments.data, model, seed, arguments),
    )


def main() -> None:
    """Run both and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the published originals")
    parser.add_argument("--work", type=Path, required=True, help="folder of files and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--left-out-seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURE_NAMES))
    parser.add_argument("--weights", default="none", help="folder of the backbones' weights")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the published network")
    arguments = parser.parse_args()
    tree = arguments.work / "tree"
    if not tree.is_dir():
        add_copies(arguments.data, tree)
    report = {
        "machine": describe_machine(),
        "worth": WORTH,
        "seeds": arguments.seeds,
        "weights": Path(arguments.weights).name,
        "test_folder": play_protocol(arguments, tree),
    }
    if arguments.left_out_seeds:
        report["left_out"] = leave_out_series(arguments, tree)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
