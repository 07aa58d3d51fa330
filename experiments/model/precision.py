"""Measure how much accuracy int8 and bf16 lose against f32 on unseen synthetic patients.

    python -m experiments.model.precision [--model models] [--patients 300] [--seed 1008]
        [--out FILE]

Slices take the path of a served request. Reported: AUROC by fracture width, the fractures of each
width band against all normal slices; the loss of AUROC against f32 on the same slices, with an
interval by bootstrap over patients; the share of decisions that differ; and the largest change of a
probability. int8 is measured only if the model's folder holds its int8 files, bf16 only if the
processor supports it. Prints JSON; see also `shipped_model.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from cspine.decide.policy import DecisionPolicy, Decisions
from cspine.evaluate.metrics import VISIBLE_MM, paired_bootstrap_difference
from cspine.model.engine.engine import Engine
from cspine.model.store.registry import ModelFiles, resolve_version
from cspine.model.store.weights_file import read_h5
from cspine.phantom.config import PhantomConfig
from experiments.model.model_figures import mean_auroc_by_width
from experiments.phantom.crops import Crops, load_crops

ROUNDED = ("bf16", "int8")


def answer(files: ModelFiles, crops: Crops, precision: str) -> Decisions | None:
    """Return the model's decisions at a precision, or None if the engine chose another one."""
    engine = Engine.load(files, precision)
    if engine.precision_used != precision:
        return None
    contents = read_h5(files.h5)
    policy = DecisionPolicy.from_parts(contents.decision, contents.arrays)
    output = engine.infer(crops.images)
    return policy.decide(output.logit, output.embedding, crops.image_ok)


def describe(said: Decisions, crops: Crops, resamples: int) -> dict[str, Any]:
    """Return the AUROC by width band."""
    bands = mean_auroc_by_width([said.probability], crops, resamples)
    return {"auroc_by_width": {name: one.to_dict() for name, one in bands.items()}}


def compare(exact: Decisions, other: Decisions, crops: Crops, resamples: int) -> dict[str, Any]:
    """Return what `other` loses against `exact`, the decisions at f32."""
    visible = (crops.labels == 0) | (crops.widths_mm >= VISIBLE_MM)
    sides = {"all": np.ones(len(crops), bool), "≥ 1 mm": visible}
    losses = {
        name: paired_bootstrap_difference(
            crops.labels[side],
            exact.probability[side],
            other.probability[side],
            crops.groups[side],
            resamples,
        ).to_dict()
        for name, side in sides.items()
    }
    flips = np.asarray(exact.prediction) != np.asarray(other.prediction)
    return {
        "auroc_loss": losses,
        "decisions_that_differ": float(flips.mean()),
        "largest_change_of_probability": float(np.abs(exact.probability - other.probability).max()),
    }


def main() -> None:
    """Run the model at each precision and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--patients", type=int, default=300, help="unseen synthetic patients")
    parser.add_argument("--seed", type=int, default=1008, help="must not be a training set's seed")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    files = resolve_version(given.model)
    config = PhantomConfig(patients=given.patients, seed=given.seed)
    crops = load_crops(config, str(files.card["view"]), int(files.card["image_size"]), None)
    exact = answer(files, crops, "f32")
    if exact is None:
        raise SystemExit("The engine must run at f32. Received: another precision")
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "model": files.version,
        "phantom": config.version,
        "seed": given.seed,
        "patients": given.patients,
        "slices": len(crops),
        "f32": describe(exact, crops, given.resamples),
    }
    for name in ROUNDED:
        said = answer(files, crops, name)
        if said is None:
            report[name] = "not computed: the processor lacks it, or the folder its files"
            continue
        figures = describe(said, crops, given.resamples)
        report[name] = figures | compare(exact, said, crops, given.resamples)
    print_figures(report, given.out)


if __name__ == "__main__":
    main()
