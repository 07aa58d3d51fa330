"""Test whether phantom labels can be predicted from simple features (shortcuts).

    python -m experiments.phantom.thumbnails [--data DIR] [--patients 200] [--seed 21] [--out FILE]

The features are the 16 × 16 thumbnail, the histogram and the height in the neck. For each one, a
logistic regression is cross-validated over patients. Its AUROC has a 95 % interval by bootstrap
over patients; 0.5 is chance. The thumbnail's AUROC must not exceed 0.60. `--data` is the folder of
an existing grouped phantom set, of which the first patients are used. Without it, a set is written
with `--seed` and deleted afterwards. Prints JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from cspine.core.labels import CLASS_NAMES
from cspine.data.audit.descriptors import resize
from cspine.data.audit.shortcuts import score_shortcut
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.grouped import write_grouped

SIDE_PX, BINS, BAR = 16, 32, 0.60


def read_features(
    folder: Path, patients: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return features by name, float (N, D), labels, int (N,), and patients, str (N,)."""
    with (folder / "slices.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = set(sorted({row["patient_id"] for row in rows})[:patients])
    rows = [row for row in rows if row["patient_id"] in chosen]
    greys = (np.asarray(Image.open(folder / row["path"])) for row in rows)
    seen = [
        (resize(grey, SIDE_PX).ravel(), np.bincount(grey.ravel() // (256 // BINS), minlength=BINS))
        for grey in greys
    ]
    features = {
        "thumbnail": np.array([thumbnail for thumbnail, _ in seen], np.float64),
        "histogram": np.array([histogram / histogram.sum() for _, histogram in seen]),
        "height": np.array([[float(row["z_mm"])] for row in rows]),
    }
    labels = np.array([CLASS_NAMES.index(row["label"]) for row in rows])
    return features, labels, np.array([row["patient_id"] for row in rows])


def measure(folder: Path, patients: int) -> dict[str, object]:
    """Return the AUROC of each feature with its interval, and the slices and patients used."""
    features, labels, groups = read_features(folder, patients)
    scores = {name: score_shortcut(values, labels, groups) for name, values in features.items()}
    about = json.loads((folder / "phantom.json").read_text(encoding="utf-8"))
    return {
        "version": about["version"],
        "seed": about["config"]["seed"],
        "patients": len(np.unique(groups)),
        "slices": len(labels),
        "fractures": int(labels.sum()),
        "bar": BAR,
        "auroc": {
            name: {"value": round(s.auroc, 4), "low": round(s.low, 4), "high": round(s.high, 4)}
            for name, s in scores.items()
            if s
        },
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of a grouped phantom set")
    parser.add_argument("--patients", type=int, default=200, help="number of patients")
    parser.add_argument("--seed", type=int, default=21, help="seed of the set that is written")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as scratch:
        config = PhantomConfig(patients=args.patients, seed=args.seed)
        folder = args.data or write_grouped(Path(scratch) / "set", config)
        found = {"machine": machine, **measure(folder, args.patients)}
    print_figures(found, args.out)


if __name__ == "__main__":
    main()
