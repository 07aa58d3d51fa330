"""What physics allows: a matched filter that knows the exact twin and the noise, by width.

    python benchmarks/ideal_observer.py [--patients 40] [--seed 7]

For a signal known exactly in Gaussian noise the filter's detectability is d'² = Σ |S(f)|² / N(f),
and its AUROC Φ(d' / √2) (Barrett and Myers, Foundations of Image Science, 13.2). S is the scanned
difference from the twin, N the scanner's noise and the rounding to grey levels. Saturation of the
window is not in it, so the figure is an upper bound. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy import fft
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import PhantomSlice, render_patient
from cspine.phantom.scanner import noise_amplitude, transfer

BANDS_MM = ((0.2, 0.4), (0.4, 0.8), (0.8, 1.0), (1.0, 2.0), (2.0, 3.0))


def detectability(item: PhantomSlice) -> float:
    """d' of one fractured slice against its twin."""
    patient = item.patient
    difference = fft.rfft2(item.ideal_hu - item.ideal_twin_hu)
    signal = np.abs(difference * transfer(patient.spacing_mm, patient.bone_kernel)) ** 2
    rounding = item.hu.size * (1 + (patient.window[1] / 255) ** 2) / 12
    noise = noise_amplitude(patient, item.place).astype(np.float64) ** 2 + rounding
    weights = np.full(signal.shape[1], 2.0)
    weights[[0, -1]] = 1  # rfft2 leaves out the mirrored columns
    return float(np.sqrt((signal / noise * weights).sum()))


def measure(patients: int, seed: int) -> dict[str, object]:
    """Return the mean AUROC of the slices of each width band."""
    config = PhantomConfig(seed=seed, fractured_share=1.0)
    items = (item for number in range(patients) for item in render_patient(number, config))
    pairs = np.array([(item.truth.width_mm, detectability(item)) for item in items])
    auroc = norm.cdf(pairs[:, 1] / np.sqrt(2))
    bands = {}
    for low, high in BANDS_MM:
        inside = (pairs[:, 0] >= low) & (pairs[:, 0] < high)
        bands[f"{low}-{high} mm"] = summary(auroc[inside], pairs[inside, 1])
    wide = pairs[:, 0] >= 1
    return {
        "patients": patients, "seed": seed, "all": summary(auroc, pairs[:, 1]),
        "at_least_1_mm": summary(auroc[wide], pairs[wide, 1]), "bands": bands,
    }  # fmt: skip


def summary(auroc: np.ndarray, d_prime: np.ndarray) -> dict[str, float | int]:
    """Mean AUROC and median d' of some slices."""
    return {
        "slices": len(auroc), "auroc": round(float(auroc.mean()), 4),
        "auroc_least": round(float(auroc.min()), 4),
        "d_prime_median": round(float(np.median(d_prime)), 2),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    print(json.dumps(measure(args.patients, args.seed), indent=2))
