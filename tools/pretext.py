"""Training task of the stand-in weights: windows of unbroken vertebrae, some with drawn cuts.

The weights are stand-ins for ImageNet weights and learn a pretext task, which needs no fracture
label. The main task is to find the cuts: dark lines drawn across bone, like the scars that CutPaste
(Li et al. 2021) draws into pictures of faultless objects. A cut is not a fracture: no bone is
displaced, no soft tissue changes, and no label of the phantom is used. Three further tasks are to
tell the vertebra's level (C1–C7), by how many quarter turns the window was rotated, and how much
noise was added.
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
CROP, WINDOW = 192, 96  # side in pixels of a vertebra's crop, and of a window cut out of the crop
MAX_NOISE = 15.0  # grey values
MAX_CUTS = 4
# Percentiles of a crop's grey values: the grey of soft tissue, to which a cut darkens bone, and the
# lowest grey that counts as bone.
TISSUE, BONE = 40, 85
OFF_BONE = 30  # largest offset in pixels, per axis, of a window's centre from a bone pixel
VISIBLE = 20.0  # a pixel belongs to a cut if the cut darkens it by more grey values than this

Targets = dict[str, np.ndarray]


@dataclass(frozen=True)
class Crops:
    """Vertebra crops uint8 (N, CROP, CROP), their levels 0…6, and their patients' numbers."""

    images: np.ndarray
    levels: np.ndarray
    patients: np.ndarray

    def of(self, chosen: np.ndarray) -> Crops:
        """Return the crops that the mask `chosen`, bool (N,), selects."""
        return Crops(self.images[chosen], self.levels[chosen], self.patients[chosen])


def render_crops(patients: int) -> Crops:
    """Return the crops of `patients` phantom patients without fractures.

    Slices in which no vertebra is found are left out.
    """
    config = PhantomConfig(patients=patients, seed=PATIENTS_SEED)
    rows = []
    for number in range(patients):
        for item in render_patient(number, config):
            # A fractured slice is replaced by its twin: the same slice without the fracture.
            grey = item.grey if item.twin_grey is None else item.twin_grey
            crop = preprocess(grey, "vertebra", CROP)
            if crop is not None:
                rows.append((crop.image, LEVELS.index(item.truth.level), number))
    images, levels, numbers = zip(*rows, strict=True)
    return Crops(np.stack(images), np.asarray(levels), np.asarray(numbers))


def batches(crops: Crops, size: int, seed: int) -> Iterator[tuple[np.ndarray, Targets]]:
    """Yield batches without end, the same for the same seed."""
    rng = np.random.default_rng(seed)
    while True:
        yield draw_batch(crops, size, rng)


def draw_batch(crops: Crops, size: int, rng: np.random.Generator) -> tuple[np.ndarray, Targets]:
    """Return pixels (B, WINDOW, WINDOW, 3) in 0…255, and the targets of the five tasks.

    Two targets have the names of a classifier's outputs: `logit` (B, 1) is 1 if the window has
    visible cuts, and `fracture_map` (B, WINDOW/8, WINDOW/8, 1) is 1 in the cells with a cut. The
    others are `level` (B,), 0…6; `side` (B,), the quarter turns, 0…3; and `noise` (B, 1), the noise
    as a share of MAX_NOISE, 0…1.
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
    """Return a window near bone, float32, and the mask of its cuts, bool; half have cuts."""
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
    """Darken bone in `window` along a crooked line towards the grey of soft tissue.

    Returns the mask of the pixels that became visibly darker, bool.
    """
    bones = np.argwhere(window >= bone)
    if not len(bones):
        return np.zeros(window.shape, bool)
    length, width = int(rng.uniform(15, 70)), np.exp(rng.uniform(np.log(0.4), np.log(2.0)))
    direction = rng.uniform(0, np.pi) + np.cumsum(rng.normal(0, 0.11, length))
    path = np.cumsum(np.stack([np.sin(direction), np.cos(direction)], 1), axis=0)
    # Moves the middle of the line to a random bone pixel.
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
