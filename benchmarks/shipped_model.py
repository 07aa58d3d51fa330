"""The shipped model on synthetic patients that no training saw, by fracture width, as JSON.

    python benchmarks/shipped_model.py [--model models] [--patients 200] [--seed 1002]

Slices go the road of serving: the finder, the crop, the engine in f32, the model's own calibration
and gate. AUROC is by slice, each band's fractures against all normal slices, with 95 % intervals by
bootstrap over patients.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import describe_machine
from cspine.decide.policy import DecisionPolicy
from cspine.evaluate.metrics import auroc_by_width, compute_metrics
from cspine.imaging.preprocess import preprocess
from cspine.model.artifact import read_h5, resolve_version
from cspine.model.engine import Engine
from cspine.phantom.dataset import PhantomConfig, render_patient


def crop_patient(
    patient: int, config: PhantomConfig, view: str, size: int
) -> list[tuple[np.ndarray | None, int, float]]:
    """Crop (None without a vertebra), label and width in mm of each slice of one patient."""
    rows = []
    for one in render_patient(patient, config):
        crop = preprocess(one.grey, view, size)
        width = np.nan if one.truth.width_mm is None else one.truth.width_mm
        rows.append((None if crop is None else crop.image, one.truth.label, width))
    return rows


def main() -> None:
    """Render, answer, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1002, help="not a training set's seed")
    arguments = parser.parse_args()
    files = resolve_version(arguments.model)
    card, contents = files.card, read_h5(files.h5)
    if arguments.seed == card["seeds"]["phantom"]:
        parser.error("--seed must differ from the seed that the model was trained on")
    config = PhantomConfig(patients=arguments.patients, seed=arguments.seed)
    work = partial(crop_patient, config=config, view=card["view"], size=card["image_size"])
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        by_patient = pool.map(work, range(arguments.patients))
    rows = [(row, number) for number, rows in enumerate(by_patient) for row in rows]
    found = [(row, number) for row, number in rows if row[0] is not None]
    images = np.stack([row[0] for row, _ in found])
    labels = np.array([row[1] for row, _ in found])
    widths = np.array([row[2] for row, _ in found])
    groups = np.array([str(number) for _, number in found])
    output = Engine.load(files, "f32").infer(images)
    policy = DecisionPolicy.from_parts(contents.decision, contents.arrays)
    answers = policy.decide(output.logit, output.embedding, np.ones(len(images), bool))
    probability, cut = answers.probability, policy.threshold.value
    figures = compute_metrics(labels, probability, cut, groups)
    bands = auroc_by_width(labels, probability, widths, groups, cut)
    predictions = np.array(answers.prediction)
    print(
        json.dumps(
            {
                "machine": describe_machine(),
                "model": card["version"],
                "phantom": config.version,
                "seed": arguments.seed,
                "patients": arguments.patients,
                "slices": len(rows),
                "slices_without_vertebra": len(rows) - len(found),
                "figures": {name: one.to_dict() for name, one in figures.items()},
                "by_width": {
                    band.name: {
                        "auroc": band.auroc.to_dict(),
                        "sensitivity": band.sensitivity.to_dict(),
                        "fractures": band.fractures,
                    }
                    for band in bands
                },
                "uncertain_share": float((predictions == "uncertain").mean()),
                "in_distribution_share": float(answers.in_distribution.mean()),
                "wrong_share_of_named": float(
                    np.mean(
                        (predictions == "fracture")[predictions != "uncertain"]
                        != labels[predictions != "uncertain"]
                    )
                ),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
