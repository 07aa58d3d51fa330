"""Learn the small linear map from bone to the canal's middle that cspine.imaging ships.

    python benchmarks/train_localiser.py [--patients 60] [--seed 77] [--ridge 30]

Ridge regression on phantoms and their mirror images; writes cspine/imaging/vertebra_centre.npz.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.localise import true_middle  # noqa: E402
from cspine.imaging import vertebra_centre  # noqa: E402
from cspine.imaging.localise import best_place, settle_on_bone  # noqa: E402
from cspine.imaging.vertebra_bone import bone_map  # noqa: E402
from cspine.phantom.config import PhantomConfig  # noqa: E402
from cspine.phantom.render import PhantomSlice, render_patient  # noqa: E402

_FAR = 16.0  # cells; starts farther away than this are other bones, and teach nothing


def examples_of(sliced: PhantomSlice) -> list[tuple[np.ndarray, np.ndarray]]:
    """Patch (625,) and shift (2,) in cells, of the slice and of its mirror image."""
    found = []
    x, y = true_middle(sliced)
    for grey, middle_x in ((sliced.grey, x), (sliced.grey[:, ::-1], sliced.grey.shape[1] - 1 - x)):
        measured = bone_map(grey)
        if measured is None:
            continue
        bone, step = measured
        _, row, column = best_place(bone)
        row, column = settle_on_bone(bone, row, column)
        shift = np.array([(y + 0.5) / step - 0.5 - row, (middle_x + 0.5) / step - 0.5 - column])
        if np.hypot(*shift) < _FAR:
            found.append((vertebra_centre.sample_patch(bone, row, column).ravel(), shift))
    return found


def fit_ridge(patches: np.ndarray, shifts: np.ndarray, ridge: float) -> tuple[np.ndarray, ...]:
    """Weights float32 (625, 2) and bias (2,), the bias unpenalised."""
    mean, middle = patches.mean(axis=0), shifts.mean(axis=0)
    centred = patches - mean
    gram = centred.T @ centred + ridge * np.eye(patches.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (shifts - middle))
    return weights.astype(np.float32), (middle - mean @ weights).astype(np.float32)


def main() -> None:
    """Render, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--ridge", type=float, default=30.0)
    arguments = parser.parse_args()
    config = PhantomConfig(patients=arguments.patients, seed=arguments.seed)
    pairs = [
        pair
        for patient in range(config.patients)
        for sliced in render_patient(patient, config)
        for pair in examples_of(sliced)
    ]
    patches, shifts = (np.array(part, dtype=np.float64) for part in zip(*pairs, strict=True))
    weights, bias = fit_ridge(patches, shifts, arguments.ridge)
    target = ROOT / "cspine" / "imaging" / vertebra_centre.WEIGHTS_FILE
    beside = target.with_name("vertebra_centre.part.npz")
    np.savez_compressed(beside, weights=weights, bias=bias)
    beside.replace(target)
    left = np.hypot(*(patches @ weights + bias - shifts).T)
    print(f"{len(pairs)} examples, error in cells: {np.percentile(left, [50, 95]).round(2)}")


if __name__ == "__main__":
    main()
