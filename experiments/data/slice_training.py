"""Compare settings of training on complete slices, on training series only.

    python -m experiments.data.slice_training --data DIR --out FILE.json [--seeds 0 1 2]
        [--settings "as shipped" …]

`--data` holds the published originals in `train/fracture/` and `train/normal/`. The published test
folder `val/` is never read. Three parts of the training files are held out, one after the other:

- `validation`: the first fifth of each class by name, as published.
- `B11` and `B12`: a series' fractures and upper normal slices. The network learns from the series'
  lower normal slices, as it does from the tested series of the published test folder.

In the second kind of part, the network has seen the held-out patient as normal only, and must not
call the patient's fractures normal. The figures are at probability 0.5, without calibration.

FILE.json holds the finished runs, so a second call goes on where the first one ended.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_DETERMINISTIC_OPS"] = "1"

import numpy as np
from PIL import Image

from benchmarks.machine import describe_machine
from cspine.core.train_config import TrainConfig
from cspine.data.samples import Samples
from cspine.model.networks.classifier import build_classifier
from cspine.stats.ranking import compute_auroc
from cspine.train.fitting.augment import augment
from cspine.train.fitting.augment_slices import (
    CHANGES,
    Change,
    augment_slices,
    cover_outside,
    cover_patches,
)
from cspine.train.fitting.batches import Augment
from cspine.train.fitting.from_scratch import fit_scratch
from cspine.train.fitting.trainer import FitPlan, TimeBudget
from experiments.data.published_network import Files, read_files
from experiments.progress import Progress

SIDE_PX = 128
IMAGES, EPOCHS = 12_800, 8  # shown to the network in all, half of what training shows by default
UPPER = {"B11": 113, "B12": 110}  # the slice numbers from which normal slices are learned
FIGURES = ("accuracy", "recall", "specificity", "auroc")
DISC_RADII = 0.35, 1.0  # as a share of half the side


@dataclass(frozen=True)
class Setting:
    """One way to train: augmentation, revision of the graph, images shown, input side in pixels."""

    augment: Augment | None = augment_slices
    revision: int = 2
    images: int = IMAGES
    side_px: int = SIDE_PX


def cover_outside_disc(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Show only a disc anywhere in the slice, and fill the rest with one grey."""
    half = len(grey) / 2
    y, x = half + rng.normal(0.0, 0.25 * half, 2)
    rows, columns = np.ogrid[: len(grey), : len(grey)]
    outside = (rows - y) ** 2 + (columns - x) ** 2 > (rng.uniform(*DISC_RADII) * half) ** 2
    return np.where(outside, np.float32(rng.uniform(0.0, 255.0)), grey)


def change(replaced: Callable[..., np.ndarray], by: Change) -> Augment:
    """Return `augment_slices` with one of its changes replaced by another."""
    changes = [by if one is replaced else (one, share) for one, share in CHANGES]
    return partial(augment_slices, changes=changes)


SETTINGS = {
    "as shipped": Setting(),
    "no augmentation": Setting(augment=None),
    "augmentation of vertebra crops": Setting(augment=augment),
    "each change half as often": Setting(
        augment=partial(augment_slices, changes=[(one, share / 2) for one, share in CHANGES])
    ),
    "moved, no change of the greys": Setting(augment=partial(augment_slices, changes=())),
    "crops of 0.45 to 1.1 of the side": Setting(augment=partial(augment_slices, zooms=(0.45, 1.1))),
    "patches in every slice": Setting(augment=change(cover_patches, (cover_patches, 1.0))),
    "a disc of the slice": Setting(augment=change(cover_outside, (cover_outside_disc, 0.7))),
    "twice the images": Setting(images=2 * IMAGES),
    "96 pixels": Setting(side_px=96),
    "192 pixels": Setting(side_px=192),
    "revision 1": Setting(revision=1),
}


def hold_out(files: Files, part: str) -> np.ndarray:
    """Return which files a part holds out, bool (N,)."""
    if part == "validation":
        ranks = np.concatenate([np.arange(n) / n for n in np.bincount(files.labels)])
        return ranks < 0.2
    numbers = np.array([int(name.split("(")[1].split(")")[0]) for name in files.names])
    upper = (files.labels == 1) | (numbers < UPPER[part])
    return np.char.endswith(files.groups, part) & upper


def as_samples(files: Files, side_px: int) -> Samples:
    """Return files as samples for a network with this input side."""
    size, count = (side_px, side_px), len(files.labels)
    bicubic = Image.Resampling.BICUBIC
    images = [np.asarray(Image.fromarray(one).resize(size, bicubic)) for one in files.images]
    return Samples(
        images=np.stack(images),
        labels=files.labels,
        masks=None,
        groups=files.groups,
        slice_ids=files.slices,
        widths_mm=np.full(count, np.nan),
        is_twin=np.zeros(count, bool),
        left_out=0,
        image_ok=np.ones(count, bool),
        key="slice training",
    )


def run_once(files: Files, part: str, setting: Setting, seed: int) -> dict[str, Any]:
    """Train once and return the figures on the files that `part` holds out."""
    held = hold_out(files, part)
    # Repeated, so that an epoch is as long as with the published copies.
    learned = np.flatnonzero(~held)
    repeats = round(setting.images / EPOCHS / len(learned))
    train = as_samples(files.take(np.tile(learned, repeats)), setting.side_px)
    held_out = as_samples(files.take(held), setting.side_px)
    defaults = TrainConfig()
    plan = FitPlan(
        epochs=EPOCHS,
        batch_size=defaults.batch_size,
        learning_rate=defaults.learning_rate,
        seed=seed,
        warmup=defaults.warmup,
        weight_decay=defaults.weight_decay,
        patience=None,
    )
    network = build_classifier(
        "cnn",
        setting.side_px,
        "none",
        seed,
        map_head=False,
        dropout=defaults.dropout,
        revision=setting.revision,
    )
    with tempfile.TemporaryDirectory() as folder:
        budget = TimeBudget(None)
        how = setting.augment
        result = fit_scratch(network, train, held_out, plan, how, budget, Path(folder), "run")
    # The last epoch, since the best of several would be chosen on the files that are reported.
    logits, labels = result.held_out[-1], held_out.labels
    right = (logits >= 0) == labels
    return {
        "accuracy": float(right.mean()),
        "recall": float(right[labels == 1].mean()),
        "specificity": float(right[labels == 0].mean()),
        "auroc": compute_auroc(labels, logits),
        "loss": float(result.history[-1]["loss"]),
    }


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean, least and greatest value of each figure over runs."""
    table = {name: [run[name] for run in runs] for name in FIGURES}
    return {
        name: {"mean": float(np.mean(v)), "least": min(v), "most": max(v)}
        for name, v in table.items()
    }


def main() -> None:
    """Run every setting, part and seed, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the published originals")
    parser.add_argument("--out", type=Path, required=True, help="file of finished runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    arguments = parser.parse_args()
    files = read_files(arguments.data / "train")
    parts = ("validation", *UPPER)
    settings = {"side_px": SIDE_PX, "images": IMAGES, "epochs": EPOCHS}
    kept = Progress(arguments.out, settings)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seed in arguments.seeds:
        for name in arguments.settings:
            for part in parts:
                work = partial(run_once, files, part, SETTINGS[name], seed)
                runs = results.setdefault(name, {}).setdefault(part, [])
                runs.append(kept.once(f"{name}, {part}, seed {seed}", work))
    report = {
        "machine": describe_machine(),
        "settings": settings,
        "seeds": arguments.seeds,
        "held_out": {part: int(hold_out(files, part).sum()) for part in parts},
        "results": {
            name: {part: summarize(runs) for part, runs in by_part.items()}
            for name, by_part in results.items()
        },
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
