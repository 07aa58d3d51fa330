"""Compare the noise spectrum and the edge sharpness of phantoms with those of real slices.

    python -m experiments.phantom.realism FOLDER_OF_REAL_PNGS [--count 40] [--out FILE]

The spectrum is the radial noise power of the flattest soft-tissue patches, normalised to a sum of
1, in eighths of the Nyquist frequency. Sharpness is the 10–90 % rise of air-to-skin edges along
rows. Both are in pixels, because the real pixel sizes are not known. Only pictures of 512² pixels
are used. Prints JSON; no picture is copied.
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
    """Return the normalised radial noise power, float (8,), of the flattest soft-tissue patches.

    None if the picture has too few patches of 32² pixels without air and saturated bone.
    """
    grid = grey[:512, :512].astype(np.float64).reshape(16, PATCH_PX, 16, PATCH_PX)
    # (256, 32, 32): the picture cut into patches.
    tiles = grid.transpose(0, 2, 1, 3).reshape(-1, PATCH_PX, PATCH_PX)
    # Patches with saturated pixels or air are left out, because clipping reduces the noise there.
    usable = (tiles.max(axis=(1, 2)) < 250) & (tiles.min(axis=(1, 2)) > 30)
    tiles = tiles[usable]
    if len(tiles) < FLATTEST:
        return None
    # (n,): the largest difference between a quarter's mean and the patch's mean. It is large if the
    # patch has a slope or an edge.
    spread = np.abs(
        tiles.reshape(len(tiles), 2, 16, 2, 16).mean(axis=(2, 4)).reshape(-1, 4)
        - tiles.mean(axis=(1, 2))[:, None]
    ).max(axis=1)
    flat = tiles[np.argsort(spread)[:FLATTEST]]
    # A Hann window keeps the patch's borders from leaking into every frequency.
    window = np.hanning(PATCH_PX)[:, None] * np.hanning(PATCH_PX)
    power = np.abs(np.fft.fft2((flat - flat.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    # Frequencies in units of the Nyquist frequency.
    ticks = np.fft.fftfreq(PATCH_PX) * 2
    radius = np.hypot(ticks[:, None], ticks[None, :])
    mean = power.mean(axis=0)
    radial = np.array(
        [mean[(radius >= low / BINS) & (radius < (low + 1) / BINS)].mean() for low in range(BINS)]
    )
    return radial / radial.sum() if radial.sum() else None


def edge_rises(grey: np.ndarray) -> list[float]:
    """Return the 10–90 % rise, in pixels, of the first air-to-skin edge of every fourth row."""
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
    """Return the mean spectrum and the median rise of some pictures."""
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
    """Return up to `count` pictures of 512², chosen at random with a fixed seed."""
    paths = sorted(folder.rglob("*.png"))
    random.Random(SEED).shuffle(paths)
    pictures = (np.asarray(Image.open(path).convert("L")) for path in paths)
    found = list(itertools.islice((p for p in pictures if p.shape == (SIDE_PX, SIDE_PX)), count))
    if not found:
        raise SystemExit(f"The folder must hold PNGs of 512 × 512 pixels. Received: {folder}")
    return found


def main() -> None:
    """Measure real slices and phantoms, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real", type=Path, help="folder of real slices")
    parser.add_argument("--count", type=int, default=40, help="pictures of each kind")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
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
