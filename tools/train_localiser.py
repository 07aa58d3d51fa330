"""Learn the filter that finds the vertebra's middle, which cspine.imaging ships.

    python -m tools.train_localiser [--patients 150] [--seed 77] [--epochs 12]

Softmax regression over the 64 × 64 places of a frame, on phantoms and their mirror images: the
score of a place is the frame's convolution with one kernel, and the target is a small Gaussian at
the true middle. Writes cspine/imaging/vertebra/centre.npz; about two minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import fft

from cspine.core.atomic_write import written_whole
from cspine.imaging.vertebra.bone import bone_map
from cspine.imaging.vertebra.centre import (
    FRAME_SIDE,
    KERNEL_FILE,
    refine_peak,
    sample_frame,
)
from cspine.phantom.config import PhantomConfig
from cspine.phantom.render import PhantomSlice, render_patient
from experiments.phantom.localise import true_middle

ROOT = Path(__file__).resolve().parent.parent

# Wide enough that convolution does not wrap around.
GRID = (2 * FRAME_SIDE,) * 2
BATCH, RATE = 60, 0.01


def examples_of(sliced: PhantomSlice) -> list[tuple[np.ndarray, tuple[float, float]]]:
    """Frame (64, 64) and true (row, column) in it, of the slice and of its mirror image."""
    measured = bone_map(sliced.grey)
    if measured is None:
        return []
    frame, pixels = sample_frame(measured[0]), sliced.grey.shape[0] / FRAME_SIDE
    # Middles of pixels onto middles of places, as `sample_frame` has them.
    column, row = ((place + 0.5) / pixels - 0.5 for place in true_middle(sliced))
    return [(frame, (row, column)), (frame[:, ::-1], (row, FRAME_SIDE - 1 - column))]


def spread_targets(places: np.ndarray) -> np.ndarray:
    """For places (n, 2), Gaussians of one place's width, (n, 64, 64), each adding up to 1."""
    along = np.arange(FRAME_SIDE)
    down, right = (np.exp(-((along - places[:, [axis]]) ** 2) / 2) for axis in (0, 1))
    targets = down[:, :, None] * right[:, None, :]
    return (targets / targets.sum(axis=(1, 2), keepdims=True)).astype(np.float32)


def score_frames(kernel: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """The score of every place, (n, 64, 64), from the frames' spectra."""
    return fft.irfft2(spectra * fft.rfft2(kernel), GRID)[:, :FRAME_SIDE, :FRAME_SIDE]


def gradient_of(kernel: np.ndarray, frames: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The gradient of the mean cross-entropy with respect to the kernel, (128, 128)."""
    spectra = fft.rfft2(frames, GRID)
    scores = score_frames(kernel, spectra)
    share = np.exp(scores - scores.max(axis=(1, 2), keepdims=True))
    share /= share.sum(axis=(1, 2), keepdims=True)
    # Softmax less target. Back through a convolution it is correlated: hence the conjugate.
    wrong = fft.rfft2(share - spread_targets(places), GRID)
    return fft.irfft2((np.conj(spectra) * wrong).sum(axis=0), GRID) / len(frames)


def fit_kernel(frames: np.ndarray, places: np.ndarray, epochs: int) -> np.ndarray:
    """The kernel, float16 (128, 128), by Adam with a cosine schedule from zero."""
    kernel = np.zeros(GRID, np.float32)
    mean, square = np.zeros(GRID), np.zeros(GRID)
    shuffle, batches = np.random.default_rng(0), max(1, len(frames) // BATCH)
    for step in range(epochs * batches):
        if step % batches == 0:
            order = np.array_split(shuffle.permutation(len(frames)), batches)
        chosen = order[step % batches]
        gradient = gradient_of(kernel, frames[chosen], places[chosen])
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        rate = RATE * 0.5 * (1 + np.cos(np.pi * (step + 1) / (epochs * batches)))
        # Adam's correction for means that began at 0 (Kingma and Ba 2015).
        unbiased = mean / (1 - 0.9 ** (step + 1)), square / (1 - 0.99 ** (step + 1))
        kernel -= np.float32(rate) * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return kernel.astype(np.float16)


def main() -> None:
    """Render, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=150)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    config = PhantomConfig(patients=arguments.patients, seed=arguments.seed)
    examples = [
        example
        for patient in range(config.patients)
        for sliced in render_patient(patient, config)
        for example in examples_of(sliced)
    ]
    frames, places = (np.array(part, np.float32) for part in zip(*examples, strict=True))
    kernel = fit_kernel(frames, places, arguments.epochs)
    target = ROOT / "cspine" / "imaging" / "vertebra" / KERNEL_FILE
    with written_whole(target) as part:
        np.savez_compressed(part, kernel=kernel)
    scores = score_frames(kernel.astype(np.float32), fft.rfft2(frames, GRID))
    left = np.hypot(*(np.array([refine_peak(one) for one in scores]) - places).T)
    print(f"{len(left)} examples, error in places: {np.percentile(left, [50, 95, 100]).round(2)}")


if __name__ == "__main__":
    main()
