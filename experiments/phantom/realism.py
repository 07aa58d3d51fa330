"""Compare noise spectrum and edge sharpness of phantoms with those of real slices.

    python -m experiments.phantom.realism FOLDER_OF_REAL_PNGS [--count 40] [--out FILE]

The spectrum is radial, of the flattest soft-tissue patches, normalised to a sum of 1, in eighths
of the Nyquist frequency. Sharpness is the 10–90 % rise of air-to-skin edges in pixels, along rows.
Real pixel sizes are not known, so both are in pixels; pictures that are not 512² are left out.
Prints JSON; copies no picture.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from cspine.phantom.config import SIDE_PX, PhantomConfig
from cspine.phantom.render import render_patient

PATCH_PX, BINS, FLATTEST = 32, 8, 12
SEED, PHANTOM_SEED = 0, 11


def noise_spectrum(grey: np.ndarray) -> np.ndarray | None:
    """Normalised radial power, float (8,), of the flattest patches of 32² between air and bone."""
    grid = grey[:512, :512].astype(np.float64).reshape(16, PATCH_PX, 16, PATCH_PX)
    # (256, 32, 32): the picture cut into patches.
    tiles = grid.transpose(0, 2, 1, 3).reshape(-1, PATCH_PX, PATCH_PX)
    # Neither saturated nor air: clipping would flatten the noise.
    usable = (tiles.max(axis=(1, 2)) < 250) & (tiles.min(axis=(1, 2)) > 30)
    tiles = tiles[usable]
    if len(tiles) < FLATTEST:
        return None
    # (n,): how far a quarter's mean is from the patch's; a slope or an edge shows there.
    spread = np.abs(
        tiles.reshape(len(tiles), 2, 16, 2, 16).mean(axis=(2, 4)).reshape(-1, 4)
        - tiles.mean(axis=(1, 2))[:, None]
    ).max(axis=1)
    flat = tiles[np.argsort(spread)[:FLATTEST]]
    # Hann, or the patch's borders would leak into every frequency.
    window = np.hanning(PATCH_PX)[:, None] * np.hanning(PATCH_PX)
    power = np.abs(np.fft.fft2((flat - flat.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    # In units of the Nyquist frequency.
    ticks = np.fft.fftfreq(PATCH_PX) * 2
    radius = np.hypot(ticks[:, None], ticks[None, :])
    mean = power.mean(axis=0)
    radial = np.array(
        [mean[(radius >= low / BINS) & (radius < (low + 1) / BINS)].mean() for low in range(BINS)]
    )
    return radial / radial.sum() if radial.sum() else None


def edge_rises(grey: np.ndarray) -> list[float]:
    """10–90 % rise, in pixels, of the first air-to-skin edge of each row."""
    rises = []
    for row in grey[100:400:4].astype(np.float64):
        inside = row[150:362]
        level = float(np.median(inside))
        low, high = 0.1 * level + 0.9 * row.min(), 0.9 * level + 0.1 * row.min()
        reached = np.flatnonzero(row >= high)
        before = np.flatnonzero(row[: reached[0]] <= low) if reached.size else reached
        if before.size > 3:
            rises.append(float(reached[0] - before[-1]))
    return rises


def measure(pictures: Iterable[np.ndarray]) -> dict[str, object]:
    """Mean spectrum and median rise of some pictures."""
    spectra, rises, count = [], [], 0
    for grey in pictures:
        count += 1
        spectrum = noise_spectrum(grey)
        if spectrum is not None:
            spectra.append(spectrum)
        rises += edge_rises(grey)
    mean = np.mean(spectra, axis=0) if spectra else np.full(BINS, np.nan)
    return {
        "pictures": count,
        "noise_spectrum": [round(float(v), 4) for v in mean],
        "spectral_centroid": round(float((mean * (np.arange(BINS) + 0.5) / BINS).sum()), 3),
        "edge_rise_px_median": float(np.median(rises)) if rises else None,
        "edges": len(rises),
    }


def read_real(folder: Path, count: int) -> list[np.ndarray]:
    """Up to `count` pictures of 512², drawn at random and always alike."""
    paths = sorted(folder.rglob("*.png"))
    random.Random(SEED).shuffle(paths)
    pictures = (np.asarray(Image.open(path).convert("L")) for path in paths)
    found = list(itertools.islice((p for p in pictures if p.shape == (SIDE_PX, SIDE_PX)), count))
    if not found:
        raise SystemExit(f"The folder must hold PNGs of 512 × 512 pixels. Received: {folder}")
    return found


def main() -> None:
    """Measure both and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    real = measure(read_real(args.real, args.count))
    config = PhantomConfig(seed=PHANTOM_SEED, slices_per_patient=2)
    drawn = (s.grey for number in range(args.count // 2) for s in render_patient(number, config))
    report = {
        "machine": describe_machine(),
        "version": config.version,
        "seed": config.seed,
        "real": real,
        "phantom": measure(drawn),
    }
    print_figures(report, args.out)


if __name__ == "__main__":
    main()
