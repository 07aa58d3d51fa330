"""Upper bound on AUROC by fracture width: a matched filter given the exact twin and the noise.

    python -m experiments.phantom.ideal_observer [--patients 40] [--seed 7] [--out FILE]

For a signal known exactly in Gaussian noise the filter's detectability is d'² = Σ |S(f)|² / N(f),
and its AUROC Φ(d' / √2) (Barrett and Myers, Foundations of Image Science, 13.2). S is the scanned
difference from the twin, N the scanner's noise and the rounding to grey levels. Saturation of the
window is not in it, so the figure is an upper bound.

Bands are those of `evaluate.metrics.auroc_by_width`, a band's fractures against all normal slices,
which here are the twins. A slice's score is drawn from the log-likelihood ratio's own distribution,
N(± d'² / 2, d'²), so that slices of different d' are ranked as one set, as a model's are.

The figure is 1 in every band, and that is honest: this observer is given the fracture's exact place
and shape and the bone's exact picture without it, and noise alone hides next to nothing; even of
hairlines a few pixels long many pixels differ. So physics is not what limits a model here. What
does is not knowing where to look, nor what this patient's bone looked like before. d' says how much
physical evidence there is: it falls with the width, and 2 is about where noise begins to hide.
Prints JSON.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import fft
from scipy.stats import norm, rankdata

from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from cspine.core.labels import FRACTURE, NORMAL
from cspine.evaluate.metrics import auroc_by_width
from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import PhantomSlice, render_patient
from cspine.phantom.scanner import noise_amplitude, transfer


def detectability(item: PhantomSlice) -> float:
    """d' of one fractured slice against its twin."""
    patient = item.patient
    difference = fft.rfft2(item.ideal_hu - item.ideal_twin_hu)
    signal = np.abs(difference * transfer(patient.spacing_mm, patient.bone_kernel)) ** 2
    # To whole HU and to grey levels of width / 255 HU: a step q adds q² / 12, at all frequencies
    # alike; rfft2 does not divide by the number of pixels.
    rounding = item.hu.size * (1 + (patient.window[1] / 255) ** 2) / 12
    noise = noise_amplitude(patient, item.position).astype(np.float64) ** 2 + rounding
    weights = np.full(signal.shape[1], 2.0)
    weights[[0, -1]] = 1  # rfft2 leaves out the mirrored columns
    return float(np.sqrt((signal / noise * weights).sum()))


def score_slices(d_prime: np.ndarray, seed: int) -> np.ndarray:
    """Return scores 0..1 (2 N,) of N fractured slices, then of their twins, by rank."""
    rng = np.random.default_rng(seed)
    half = d_prime**2 / 2
    ratios = np.concatenate([rng.normal(half, d_prime), rng.normal(-half, d_prime)])
    return rankdata(ratios) / len(ratios)


def measure(patients: int, seed: int) -> dict[str, object]:
    """Return AUROC and d' of each width band, and of all."""
    config = PhantomConfig(seed=seed, fractured_share=1.0)
    items = [item for number in range(patients) for item in _fractured(number, config)]
    widths, d_prime = (np.array(column) for column in zip(*items, strict=True))
    owners = np.repeat(np.arange(patients), config.slices_per_patient)
    labels = np.repeat([FRACTURE, NORMAL], len(widths))
    twice = np.concatenate([widths, np.full(len(widths), np.nan)])
    # A twin belongs to its slice's patient: both are drawn together.
    bands = auroc_by_width(labels, score_slices(d_prime, seed), twice, np.tile(owners, 2))
    return {
        "patients": patients,
        "seed": seed,
        "slices": len(widths),
        "bands": {
            band.name: {
                "fractures": band.fractures,
                "auroc": band.auroc.to_dict(),
                **_summary(d_prime[(widths >= band.low_mm) & (widths < band.high_mm)]),
            }
            for band in bands
        },
    }


def _fractured(number: int, config: PhantomConfig) -> list[tuple[float, float]]:
    """Width and d' of each slice of one patient."""
    items = render_patient(number, config)
    return [(item.truth.width_mm or 0.0, detectability(item)) for item in items]


def _summary(d_prime: np.ndarray) -> dict[str, float]:
    """The d' of some slices, and what the worst one's AUROC against its own twin would be."""
    least = float(d_prime.min())
    return {
        "d_prime_median": round(float(np.median(d_prime)), 1),
        "d_prime_least": round(least, 1),
        "auroc_of_the_least": round(float(norm.cdf(least / np.sqrt(2))), 4),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = {"machine": describe_machine(), **measure(args.patients, args.seed)}
    print_figures(found, args.out)


if __name__ == "__main__":
    main()
