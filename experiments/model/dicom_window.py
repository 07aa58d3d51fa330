"""Compare the fixed window with the header's window on DICOM files of unseen phantom patients.

    python -m experiments.model.dicom_window [--model models] [--patients 400] [--seed 2027]

Each file's Hounsfield units become a grey picture through the display window in its header, and
through several fixed windows. The header's windows vary from patient to patient, as in the PNG
files that the model learned from. A model of pictures alone may take DICOM files through the fixed
window if its AUROC is not lower beyond the interval of the difference (bootstrap by patient).

A slice in which a window lets the finder see no vertebra has no probability; the AUROC of all
windows is computed on the slices that have one in every window. Prints JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from cspine.core.labels import HEADER_WINDOW
from cspine.imaging.decode import decode_image
from cspine.imaging.dicom.window import BONE_WINDOW, apply_window
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.dicom_layouts import write_dicom
from cspine.predict.predictor import Predictor
from cspine.stats.bootstrap import draw_weights, group_codes
from cspine.stats.intervals import percentile_interval
from cspine.stats.ranking import area_under_roc, compute_auroc, rank

# Centre and width in HU.
WINDOWS = {
    "400 / 1800": BONE_WINDOW,
    "300 / 1500": (300.0, 1500.0),
    "500 / 2000": (500.0, 2000.0),
    "500 / 2500": (500.0, 2500.0),
    "600 / 1500": (600.0, 1500.0),
}
RESAMPLES = 2000
THREADS = 4


def score_file(predictor: Predictor, path: Path) -> dict[str, float]:
    """Return P(fracture) of a file through each window; NaN if no vertebra is found."""
    data = path.read_bytes()
    shown = decode_image(data, dicom_window=HEADER_WINDOW)
    assert shown.hu is not None
    greys = {name: apply_window(shown.hu, *window) for name, window in WINDOWS.items()}
    greys[HEADER_WINDOW] = shown.grey
    found = {name: predictor.predict_pixels(grey).probability for name, grey in greys.items()}
    return {name: np.nan if value is None else value for name, value in found.items()}


def compare(
    labels: np.ndarray, scores: dict[str, np.ndarray], patients: np.ndarray, wide: np.ndarray
) -> dict[str, Any]:
    """Return each window's AUROC, at all widths and at 1 mm and more, and less the header's."""
    is_scored = np.all([np.isfinite(values) for values in scores.values()], axis=0)
    report: dict[str, Any] = {}
    for name, chosen in (("all_widths", is_scored), ("1_mm_and_more", is_scored & wide)):
        codes = group_codes(patients[chosen], int(chosen.sum()))
        weights = np.concatenate(list(draw_weights(codes, RESAMPLES, 0)))
        resampled = {
            window: area_under_roc(rank(labels[chosen], values[chosen], weights))
            for window, values in scores.items()
        }
        aurocs = {w: compute_auroc(labels[chosen], v[chosen]) for w, v in scores.items()}
        report[name] = {
            window: {
                "auroc": percentile_interval(aurocs[window], resampled[window]).to_dict(),
                "less_header": percentile_interval(
                    aurocs[window] - aurocs[HEADER_WINDOW],
                    resampled[window] - resampled[HEADER_WINDOW],
                ).to_dict(),
            }
            for window in scores
        }
    report["slices"] = int(is_scored.sum())
    report["without_vertebra"] = {w: int(np.isnan(v).sum()) for w, v in scores.items()}
    return report


def main() -> None:
    """Write the files, score them, and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models"), help="folder of the model")
    parser.add_argument("--patients", type=int, default=400, help="unseen synthetic patients")
    parser.add_argument("--seed", type=int, default=2027, help="of the patients; not the model's")
    arguments = parser.parse_args()
    predictor = Predictor.load(arguments.model, precision="f32", answer_synthetic=True)
    with tempfile.TemporaryDirectory() as temporary:
        config = PhantomConfig(patients=arguments.patients, seed=arguments.seed)
        out = write_dicom(Path(temporary) / "set", config)
        with (out / "slices.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with ThreadPoolExecutor(THREADS) as pool:
            score = partial(score_file, predictor)
            found = list(pool.map(score, [out / row["path"] for row in rows]))
    labels = np.array([int(row["label"] == "fracture") for row in rows])
    widths = np.array([float(row["width_mm"] or "nan") for row in rows])
    scores = {name: np.array([one[name] for one in found]) for name in found[0]}
    patients = np.array([row["patient_id"] for row in rows])
    report = {
        "machine": describe_machine(),
        "model": predictor.version,
        "patients": arguments.patients,
        "seed": arguments.seed,
        **compare(labels, scores, patients, (labels == 0) | (widths >= 1.0)),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
