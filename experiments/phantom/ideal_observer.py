"""Upper bound on AUROC by fracture width: a matched filter given the exact twin and the noise.

    python -m experiments.phantom.ideal_observer [--patients 40] [--seed 7] [--out FILE]

A twin is the same slice without its fracture. For a signal that is known exactly, in Gaussian
noise, the filter's detectability is d'² = Σ |S(f)|² / N(f) and its AUROC is Φ(d' / √2) (Barrett and
Myers, Foundations of Image Science, 13.2). S is the difference from the twin after the scanner's
transfer function; N is the scanner's noise plus the rounding to grey levels. Saturation of the
display window is left out, so the AUROC is an upper bound.

The width bands are those of `evaluate.metrics.auroc_by_width`: a band's fractures against all
normal slices, which here are the twins. A slice's score is drawn from the distribution of the
log-likelihood ratio, N(± d'² / 2, d'²). Slices of different d' can thus be ranked as one set, as
those of a model are.

The AUROC is 1 in every band. This observer knows the exact position and shape of the fracture and
the exact picture of the bone without it, and noise hides almost nothing of that: even for a
hairline a few pixels long, many pixels differ. So a model is not limited by physics here, but by
not knowing where to look and how this patient's bone looked before. d' measures the physical
evidence. It falls with the width, and noise begins to hide a fracture at a d' of about 2. Prints
JSON.
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
    """Return d' of one fractured slice against its twin."""
    patient = item.patient
    difference = fft.rfft2(item.ideal_hu - item.ideal_twin_hu)
    signal = np.abs(difference * transfer(patient.spacing_mm, patient.bone_kernel)) ** 2
    # The scan is rounded to integer HU and then to grey levels of width / 255 HU. Rounding with
    # step q adds a variance of q² / 12, the same at every frequency. rfft2 does not normalise, so
    # the sum is multiplied by the number of pixels.
    rounding = item.hu.size * (1 + (patient.window[1] / 255) ** 2) / 12
    noise = noise_amplitude(patient, item.position).astype(np.float64) ** 2 + rounding
    weights = np.full(signal.shape[1], 2.0)
    weights[[0, -1]] = 1  # rfft2 leaves out the mirrored columns
    return float(np.sqrt((signal / noise * weights).sum()))


def score_slices(d_prime: np.ndarray, seed: int) -> np.ndarray:
    """Return scores (2 N,) of N fractured slices and then of their twins: ranks scaled to 0..1."""
    rng = np.random.default_rng(seed)
    half = d_prime**2 / 2
    ratios = np.concatenate([rng.normal(half, d_prime), rng.normal(-half, d_prime)])
    return rankdata(ratios) / len(ratios)


def measure(patients: int, seed: int) -> dict[str, object]:
    """Return AUROC and d' of each width band and of all fractures."""
    config = PhantomConfig(seed=seed, fractured_share=1.0)
    items = [item for number in range(patients) for item in _fractured(number, config)]
    widths, d_prime = (np.array(column) for column in zip(*items, strict=True))
    owners = np.repeat(np.arange(patients), config.slices_per_patient)
    labels = np.repeat([FRACTURE, NORMAL], len(widths))
    twice = np.concatenate([widths, np.full(len(widths), np.nan)])
    # A twin has its slice's patient, so that the bootstrap resamples both together.
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
    """Return width and d' of each slice of one patient."""
    items = render_patient(number, config)
    return [(item.truth.width_mm or 0.0, detectability(item)) for item in items]


def _summary(d_prime: np.ndarray) -> dict[str, float]:
    """Return the median and the least d', and the AUROC of the slice with the least d'."""
    least = float(d_prime.min())
    return {
        "d_prime_median": round(float(np.median(d_prime)), 1),
        "d_prime_least": round(least, 1),
        "auroc_of_the_least": round(float(norm.cdf(least / np.sqrt(2))), 4),
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=40, help="synthetic patients")
    parser.add_argument("--seed", type=int, default=7, help="seed of the patients")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    found = {"machine": describe_machine(), **measure(args.patients, args.seed)}
    print_figures(found, args.out)


if __name__ == "__main__":
    main()
