"""Ablation study of the CNN's training on phantoms, one factor at a time.

    python -m experiments.model.training_study [--patients 400] [--seconds 300] [--seeds 3]
        [--only NAME …] [--progress build/study/progress.json]

Every run gets the same training time on one core, so a slower setting trains on fewer crops. One
run per core runs at a time. AUROC is by slice on the phantom set's validation patients, from whom
no run learns; the last epoch counts, and no epoch is selected. A study that was interrupted
continues when it is started again. Prints JSON and changes nothing in the project.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

# Keras reads its backend once, when it is first imported.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_DETERMINISTIC_OPS"] = "1"

import keras

from benchmarks.machine import describe_machine
from cspine.core.train_config import TrainConfig
from cspine.data.crop_cache import load_samples
from cspine.data.samples import Samples
from cspine.data.sources import resolve_data
from cspine.data.split import split_dataset
from cspine.model.networks.classifier import build_classifier
from cspine.phantom.config import PhantomConfig
from cspine.stats.ranking import compute_auroc
from cspine.train.fitting.augment import augment
from cspine.train.fitting.from_scratch import STAGES, Stage, fit_scratch
from cspine.train.fitting.trainer import FitPlan, TimeBudget
from experiments.progress import Progress

Run = tuple[str, int, float, int]  # setting, seed, seconds, patients
WHOLE = (Stage(6, 1.0, 1.0, 0.002),)
BASE = FitPlan(epochs=400, batch_size=32, learning_rate=3e-3, seed=0, patience=None)


@dataclass(frozen=True)
class Setting:
    """Data and training settings of a run; the defaults are those of the shipped model.

    `plan` holds changes to the fields of `BASE`, `share` is the share of the training patients that
    are used, and `side` is the side of the crop in pixels (of the complete slice in slice view).
    With `halved`, the crop is averaged over blocks of 2 × 2 pixels.
    """

    plan: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0
    twins: bool = True
    masks: bool = True
    stages: tuple[Stage, ...] = STAGES
    view: str = "vertebra"
    side: int = 192
    halved: bool = False


SETTINGS = {
    "as shipped": Setting(),
    "rate 1e-3": Setting({"learning_rate": 1e-3}),
    "rate 6e-3": Setting({"learning_rate": 6e-3}),
    "a quarter of the patients": Setting(share=0.25),
    "half of the patients": Setting(share=0.5),
    "crop of 128 pixels": Setting(side=128),
    "crop of 256 pixels": Setting(side=256),
    "crop of 192 at half the resolution": Setting(halved=True),
    "whole slice at 192 pixels": Setting(view="slice"),
    "without twins": Setting(twins=False),
    "whole crops only": Setting(stages=WHOLE),
    "without masks": Setting(masks=False, stages=WHOLE),
    "map loss x 0.3": Setting({"map_weight": 0.3}),
    "map loss x 3": Setting({"map_weight": 3.0}),
}


def load_sides(patients: int, setting: Setting) -> tuple[Samples, Samples]:
    """Return training samples with twins, and validation samples, of the phantom set."""
    config = TrainConfig()
    dataset, _ = resolve_data("phantom", Path("build"), PhantomConfig(patients=patients))
    split = split_dataset(dataset, "grouped", config.seed)
    cache = Path(config.cache)
    train, validation = (
        load_samples(dataset, records, setting.view, setting.side, cache, with_twins)
        for records, with_twins in ((split.train, True), (split.validation, False))
    )
    return (halve(train), halve(validation)) if setting.halved else (train, validation)


def halve(samples: Samples) -> Samples:
    """Return the same crops at half the resolution; four cells of a mask become one."""
    count, side = samples.images.shape[:2]
    blocks = samples.images.reshape(count, side // 2, 2, side // 2, 2)
    masks = samples.masks
    if masks is not None:
        cells = masks.shape[1] // 2
        masks = masks.reshape(count, cells, 2, cells, 2).max((2, 4))
    return replace(samples, images=blocks.mean((2, 4)).astype(np.uint8), masks=masks)


def choose_training(train: Samples, setting: Setting) -> Samples:
    """Return the samples of the first patients, with or without twins and masks."""
    groups = np.unique(train.groups)
    wanted = groups[: max(1, round(setting.share * len(groups)))]
    chosen = np.isin(train.groups, wanted) & (setting.twins | ~train.is_twin)
    samples = train.take(chosen)
    return samples if setting.masks else replace(samples, masks=None)


def take_core(cores: Any) -> None:
    """Pin this process to one free core, so that TensorFlow uses one thread and runs do not compete
    for cores."""
    os.sched_setaffinity(0, {cores.get()})


def run_setting(run: Run) -> dict[str, float]:
    """Train once and score the last epoch."""
    name, seed, seconds, patients = run
    keras.utils.clear_session()
    setting = SETTINGS[name]
    train, validation = load_sides(patients, setting)
    samples = choose_training(train, setting)
    plan = replace(BASE, seed=seed, **setting.plan)
    side = samples.images.shape[1]
    classifier = build_classifier("cnn", side, seed=seed, map_head=setting.masks)
    began, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = fit_scratch(
            classifier,
            samples,
            validation,
            plan,
            augment,
            TimeBudget(seconds),
            Path(folder),
            name,
            setting.stages,
        )
    logits, labels = result.held_out[-1], validation.labels
    wide = (labels == 0) | (validation.widths_mm >= 1.0)
    return {
        "auroc": round(compute_auroc(labels, logits), 4),
        "auroc_at_least_1_mm": round(compute_auroc(labels[wide], logits[wide]), 4),
        "epochs": len(result.history),
        "samples": len(samples),
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def title(run: Run) -> str:
    """Return the run's name in the progress file."""
    return f"{run[0]}, seed {run[1]}"


def run_all(runs: list[Run], kept: Progress) -> None:
    """Run the runs, one per core at a time, and keep each result as soon as it is there."""
    spawning = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))
    queue = spawning.Manager().Queue()
    for core in cores:
        queue.put(core)
    with ProcessPoolExecutor(len(cores), spawning, take_core, (queue,)) as pool:
        waiting = {pool.submit(run_setting, run): title(run) for run in runs}
        for done in as_completed(waiting):
            kept.keep(waiting[done], done.result())
            print(waiting[done], done.result(), file=sys.stderr)


def summarise(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Return the runs of one setting, and their means."""
    names = ("auroc", "auroc_at_least_1_mm")
    means = {f"mean_{one}": round(float(np.mean([run[one] for run in runs])), 4) for one in names}
    return {"runs": runs, **means}


def main() -> None:
    """Run the settings and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--patients", type=int, default=400, help="patients of the phantom set")
    add("--seconds", type=float, default=300, help="training time of each run, on one core")
    add("--seeds", type=int, default=3, help="runs per setting")
    add("--only", nargs="+", default=list(SETTINGS), metavar="NAME", help="settings to run")
    add("--progress", type=Path, default=Path("build/study/progress.json"), help="finished runs")
    arguments = parser.parse_args()
    # Writes the cache before the runs start, so that the runs only read it.
    for name in arguments.only:
        load_sides(arguments.patients, SETTINGS[name])
    train, validation = load_sides(arguments.patients, Setting())
    kept = Progress(
        arguments.progress, {"patients": arguments.patients, "seconds": arguments.seconds}
    )
    wanted = [
        (name, seed, arguments.seconds, arguments.patients)
        for name in arguments.only
        for seed in range(arguments.seeds)
    ]
    run_all([run for run in wanted if title(run) not in kept.done], kept)
    results = {
        name: summarise([kept.done[title(run)] for run in wanted if run[0] == name])
        for name in arguments.only
    }
    sides = {
        "train_patients": len(np.unique(train.groups)),
        "validation_patients": len(np.unique(validation.groups)),
        "validation_slices": len(validation),
        "validation_fractures_at_least_1_mm": int((validation.widths_mm >= 1.0).sum()),
    }
    report = {
        "machine": describe_machine(),
        "seconds_on_one_core": arguments.seconds,
        "data": sides,
        "settings": results,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
