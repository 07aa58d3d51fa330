"""Pretext task of the stand-in weights: windows of unbroken vertebrae, some with drawn cuts.

The main task is the cuts: dark lines drawn across bone, as CutPaste's scars (Li et al. 2021) are
drawn into pictures of things without a fault. They are no fractures: nothing moves, there is no
soft tissue and no label of the phantom is read. Beside them the design's three: the level (C1–C7),
by how many quarters the window was turned, and how much noise was added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cspine.data.masks import pool_mask
from cspine.imaging.channels import as_network_input
from cspine.imaging.preprocess import preprocess
from cspine.phantom.config import LEVELS, PhantomConfig
from cspine.phantom.render import render_patient

PATIENTS_SEED = 900_001  # far from the seeds of every other set
CROP, WINDOW = 192, 96  # pixels a side of a vertebra's crop, and of a window of it
MAX_NOISE = 15.0  # grey values
MAX_CUTS = 4
# Of a crop's grey values: soft tissue, which shows in a cut, and what passes for bone.
TISSUE, BONE = 40, 85  # percentiles
OFF_BONE = 30  # pixels that a window's centre may lie beside bone
VISIBLE = 20.0  # grey values that a cut must take away to be seen

Targets = dict[str, np.ndarray]


@dataclass(frozen=True)
class Crops:
    """Vertebra crops uint8 (N, CROP, CROP), their levels 0…6, and their patients' numbers."""

    images: np.ndarray
    levels: np.ndarray
    patients: np.ndarray

    def of(self, chosen: np.ndarray) -> Crops:
        """The crops that a bool (N,) picks."""
        return Crops(self.images[chosen], self.levels[chosen], self.patients[chosen])


def render_crops(patients: int) -> Crops:
    """Crops of `patients` unbroken phantom patients; slices with no vertebra found are left out."""
    config = PhantomConfig(patients=patients, seed=PATIENTS_SEED)
    rows = []
    for number in range(patients):
        for item in render_patient(number, config):
            # A fractured slice's twin, so that no fracture is ever seen.
            grey = item.grey if item.twin_grey is None else item.twin_grey
            crop = preprocess(grey, "vertebra", CROP)
            if crop is not None:
                rows.append((crop.image, LEVELS.index(item.truth.level), number))
    images, levels, numbers = zip(*rows, strict=True)
    return Crops(np.stack(images), np.asarray(levels), np.asarray(numbers))


def batches(crops: Crops, size: int, seed: int) -> Iterator[tuple[np.ndarray, Targets]]:
    """Batches without end, the same for the same seed."""
    rng = np.random.default_rng(seed)
    while True:
        yield draw_batch(crops, size, rng)


def draw_batch(crops: Crops, size: int, rng: np.random.Generator) -> tuple[np.ndarray, Targets]:
    """Pixels (B, WINDOW, WINDOW, 3) in 0…255, and what there is to say of them.

    `logit` (B, 1) 1 where cuts show, `fracture_map` (B, WINDOW/8, WINDOW/8, 1) 1 where they run,
    under the names that a classifier gives its outputs; `level` (B,) 0…6, `side` (B,) quarters
    0…3, `noise` (B, 1) 0…1 of MAX_NOISE.
    """
    chosen, sides = rng.integers(len(crops.images), size=size), rng.integers(4, size=size)
    drawn = [_draw_window(crops.images[i], rng) for i in chosen]
    grey = np.stack([np.rot90(window, k) for (window, _), k in zip(drawn, sides, strict=True)])
    cuts = np.stack([np.rot90(cut, k) for (_, cut), k in zip(drawn, sides, strict=True)])
    noise = rng.uniform(0, 1, size).astype(np.float32)
    grey = grey + rng.normal(size=grey.shape) * (MAX_NOISE * noise)[:, None, None]
    cells = np.stack([pool_mask(cut) for cut in cuts])
    return as_network_input(np.clip(grey, 0, 255).astype(np.float32)), {
        "logit": np.asarray(cuts.any((1, 2)), np.float32)[:, None],
        "fracture_map": cells.astype(np.float32)[..., None],
        "level": crops.levels[chosen],
        "side": sides,
        "noise": noise[:, None],
    }


def _draw_window(crop: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A window near bone, float32, and where it is cut, bool; half of them have cuts."""
    tissue, bone = np.percentile(crop, (TISSUE, BONE))
    around = rng.choice(np.argwhere(crop >= bone)) + rng.integers(-OFF_BONE, OFF_BONE + 1, 2)
    top, left = np.clip(around - WINDOW // 2, 0, CROP - WINDOW)
    window = crop[top : top + WINDOW, left : left + WINDOW].astype(np.float32)
    cut = np.zeros(window.shape, bool)
    if rng.integers(2):
        for _ in range(rng.integers(1, MAX_CUTS + 1)):
            cut |= _draw_cut(window, tissue, bone, rng)
    return window, cut


def _draw_cut(
    window: np.ndarray, tissue: float, bone: float, rng: np.random.Generator
) -> np.ndarray:
    """Darken bone along a crooked line towards the grey of soft tissue; return where it shows."""
    bones = np.argwhere(window >= bone)
    if not len(bones):
        return np.zeros(window.shape, bool)
    length, width = int(rng.uniform(15, 70)), np.exp(rng.uniform(np.log(0.4), np.log(2.0)))
    direction = rng.uniform(0, np.pi) + np.cumsum(rng.normal(0, 0.11, length))
    path = np.cumsum(np.stack([np.sin(direction), np.cos(direction)], 1), axis=0)
    # Its middle is in bone.
    path += rng.choice(bones) - path[length // 2]
    path = np.rint(path).astype(int)
    path = path[((path >= 0) & (path < WINDOW)).all(axis=1)]
    off = np.ones(window.shape, bool)
    off[tuple(path.T)] = False
    distance = ndimage.distance_transform_edt(off)
    depth = rng.uniform(0.6, 1.0) * np.exp(-(distance**2) / (2 * width**2))
    taken = depth * np.clip(window - tissue, 0, None)
    window -= taken
    return np.asarray(taken > VISIBLE)
