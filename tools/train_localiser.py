"""Train the filter that finds the vertebra's middle, and write it to centre.npz.

    python -m tools.train_localiser [--patients 150] [--seed 77] [--epochs 12]

A frame is the slice's bone map, reduced to 64 × 64 cells. The scores of all cells are the frame's
convolution with one kernel, the filter. It is fitted by softmax regression over the cells, on
phantoms and their mirror images; the target is a small Gaussian at the true middle. Writes
cspine/imaging/vertebra/centre.npz. Takes about two minutes on one core.
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

# Twice the frame's side, so that the circular convolution does not wrap around.
GRID = (2 * FRAME_SIDE,) * 2
BATCH, RATE = 60, 0.01


def examples_of(sliced: PhantomSlice) -> list[tuple[np.ndarray, tuple[float, float]]]:
    """Return frame (64, 64) and true (row, column) in it, for the slice and its mirror image."""
    measured = bone_map(sliced.grey)
    if measured is None:
        return []
    frame, pixels = sample_frame(measured[0]), sliced.grey.shape[0] / FRAME_SIDE
    # Converts pixel coordinates to cell coordinates, as in `sample_frame`; whole numbers are the
    # middles of pixels and of cells.
    column, row = ((place + 0.5) / pixels - 0.5 for place in true_middle(sliced))
    return [(frame, (row, column)), (frame[:, ::-1], (row, FRAME_SIDE - 1 - column))]


def spread_targets(places: np.ndarray) -> np.ndarray:
    """Return for each of `places` (n, 2) a Gaussian (n, 64, 64) with sum 1 and σ of one cell."""
    along = np.arange(FRAME_SIDE)
    down, right = (np.exp(-((along - places[:, [axis]]) ** 2) / 2) for axis in (0, 1))
    targets = down[:, :, None] * right[:, None, :]
    return (targets / targets.sum(axis=(1, 2), keepdims=True)).astype(np.float32)


def score_frames(kernel: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Return the score of every cell, (n, 64, 64), from the frames' spectra."""
    return fft.irfft2(spectra * fft.rfft2(kernel), GRID)[:, :FRAME_SIDE, :FRAME_SIDE]


def gradient_of(kernel: np.ndarray, frames: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the gradient of the mean cross-entropy with respect to the kernel, (128, 128)."""
    spectra = fft.rfft2(frames, GRID)
    scores = score_frames(kernel, spectra)
    share = np.exp(scores - scores.max(axis=(1, 2), keepdims=True))
    share /= share.sum(axis=(1, 2), keepdims=True)
    # The gradient at the scores is softmax minus target. The gradient of a convolution is a
    # correlation, hence the conjugate.
    wrong = fft.rfft2(share - spread_targets(places), GRID)
    return fft.irfft2((np.conj(spectra) * wrong).sum(axis=0), GRID) / len(frames)


def fit_kernel(frames: np.ndarray, places: np.ndarray, epochs: int) -> np.ndarray:
    """Return the kernel, float16 (128, 128), fitted with Adam and a cosine learning rate.

    The kernel starts at zero.
    """
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
        # Adam corrects for the means' start at 0 (Kingma and Ba 2015).
        unbiased = mean / (1 - 0.9 ** (step + 1)), square / (1 - 0.99 ** (step + 1))
        kernel -= np.float32(rate) * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return kernel.astype(np.float16)


def main() -> None:
    """Render phantoms, fit the kernel, write it, and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=150, help="synthetic patients")
    parser.add_argument("--seed", type=int, default=77, help="seed of the synthetic patients")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of the fit")
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
    shown = np.percentile(left, [50, 95, 100]).round(2)
    print(f"{len(left)} examples; error in cells (median, 95th percentile, largest): {shown}")


if __name__ == "__main__":
    main()
