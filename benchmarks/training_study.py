"""What makes the CNN see fractures on phantoms: one factor changed at a time, printed as JSON.

    python benchmarks/training_study.py [--patients 400] [--seconds 240] [--seeds 3] [--only NAME …]

Every run gets the same training time, so a dearer setting sees fewer crops. AUROC is by slice on
the phantom set's validation patients, whom no run learns from; the last epoch counts, none is
picked. It changes nothing in the project.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

# Keras reads its backend once, when it is first imported.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_DETERMINISTIC_OPS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import describe_machine
from cspine.core.config import TrainConfig
from cspine.data.pipeline import load_samples
from cspine.data.resolve import resolve_data
from cspine.data.samples import Samples
from cspine.data.split import split_dataset
from cspine.model.classifier import build_classifier
from cspine.phantom.dataset import PhantomConfig
from cspine.train.fit import Clock, FitPlan, area_under_roc
from cspine.train.scratch import STAGES, Stage, fit_scratch

SIZE = 192
WHOLE = (Stage(6, 1.0, 1.0, 0.002),)
BASE = FitPlan(400, 32, 3e-3, 0, patience=None)
# name: (changes of the plan, share of the training patients, with twins, with masks, stages)
SETTINGS = {
    "as shipped": ({}, 1.0, True, True, STAGES),
    "rate 1e-3": ({"learning_rate": 1e-3}, 1.0, True, True, STAGES),
    "rate 6e-3": ({"learning_rate": 6e-3}, 1.0, True, True, STAGES),
    "a quarter of the patients": ({}, 0.25, True, True, STAGES),
    "half of the patients": ({}, 0.5, True, True, STAGES),
    "without twins": ({}, 1.0, False, True, STAGES),
    "whole crops only": ({}, 1.0, True, True, WHOLE),
    "without masks": ({}, 1.0, True, False, WHOLE),
    "map loss x 0.3": ({"map_weight": 0.3}, 1.0, True, True, STAGES),
    "map loss x 3": ({"map_weight": 3.0}, 1.0, True, True, STAGES),
}


def load_sides(patients: int) -> tuple[Samples, Samples]:
    """Training samples with twins, and validation samples, of the phantom set."""
    config = TrainConfig()
    dataset, _ = resolve_data("phantom", Path("build"), PhantomConfig(patients=patients))
    split = split_dataset(dataset, "grouped", config.seed)
    cache = Path(config.cache)
    train = load_samples(dataset, split.train, "vertebra", SIZE, cache, with_twins=True)
    return train, load_samples(dataset, split.validation, "vertebra", SIZE, cache)


def choose_training(train: Samples, share: float, twins: bool, masks: bool) -> Samples:
    """The first patients of the training side, with or without twins and masks."""
    groups = np.unique(train.groups)
    wanted = groups[: max(1, round(share * len(groups)))]
    chosen = np.isin(train.groups, wanted) & (twins | ~train.is_twin)
    samples = train.take(chosen)
    return samples if masks else replace(samples, masks=None)


def run_setting(
    name: str, seed: int, seconds: float, train: Samples, validation: Samples
) -> dict[str, float]:
    """Train once and score the last epoch."""
    changes, share, twins, masks, stages = SETTINGS[name]
    samples = choose_training(train, share, twins, masks)
    plan = replace(BASE, seed=seed, **changes)
    classifier = build_classifier("cnn", SIZE, seed=seed, map_head=masks)
    began, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = fit_scratch(
            classifier, samples, validation, plan, True, Clock(seconds), Path(folder), name, stages
        )
    logits, labels = result.held_out[-1], validation.labels
    wide = (labels == 0) | (validation.widths_mm >= 1.0)
    return {
        "auroc": round(area_under_roc(labels, logits), 4),
        "auroc_at_least_1_mm": round(area_under_roc(labels[wide], logits[wide]), 4),
        "epochs": len(result.history),
        "samples": len(samples),
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def main() -> None:
    """Run the settings and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(SETTINGS), metavar="NAME")
    arguments = parser.parse_args()
    train, validation = load_sides(arguments.patients)
    results = {}
    for name in arguments.only:
        runs = [
            run_setting(name, seed, arguments.seconds, train, validation)
            for seed in range(arguments.seeds)
        ]
        results[name] = {
            "runs": runs,
            "mean_auroc": round(float(np.mean([run["auroc"] for run in runs])), 4),
            "mean_auroc_at_least_1_mm": round(
                float(np.mean([run["auroc_at_least_1_mm"] for run in runs])), 4
            ),
        }
        print(name, results[name], file=sys.stderr)
    sides = {
        "train_patients": len(np.unique(train.groups)),
        "validation_patients": len(np.unique(validation.groups)),
        "validation_slices": len(validation),
        "validation_fractures_at_least_1_mm": int((validation.widths_mm >= 1.0).sum()),
    }
    print(json.dumps({"machine": describe_machine(), "data": sides, "settings": results}, indent=1))


if __name__ == "__main__":
    main()
