"""Augmentation of crops: mirroring, shift, window and noise.

The changes are those that another scan of the same neck could show. A mask is moved with its image.
A fracture and its twin (the same slice without its fracture) get the same random changes, so that
the fracture stays their only difference.
"""

from __future__ import annotations

import numpy as np

from cspine.imaging.preprocess import AIR

# Pixels per mask cell; shifts are complete cells, so that image and mask move by the same distance.
STRIDE = 8
# 16 pixels, little enough that the fracture stays inside a crop of 192.
MAX_SHIFT_CELLS = 2
GAIN_SPREAD = 0.15  # of the logarithm of the contrast
OFFSET_SPREAD = 12.0  # grey levels, of the window's centre
# Enough to vary the noise, too little to hide a hairline fracture.
MAX_NOISE = 4.0  # grey levels, standard deviation


def augment(
    images: np.ndarray,
    masks: np.ndarray | None,
    units: np.ndarray,
    rng: np.random.Generator,
    max_shift: int = MAX_SHIFT_CELLS,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return augmented copies of crops.

    Args:
        images: uint8 (B, S, S).
        masks: uint8 (B, S // 8, S // 8) in {0, 1}, or None.
        units: int (B,); samples of one unit get the same draw, except for the noise.
        rng: the source of every draw.
        max_shift: the largest shift, in cells of a mask.

    Returns:
        Images float32 (B, S, S) in 0…255, and masks uint8 (B, S // 8, S // 8) or None.
    """
    # Drawn by unit, so that a twin differs from its fractured slice only by the fracture.
    _, unit = np.unique(units, return_inverse=True)
    count = int(unit.max()) + 1
    # Mirrored only left to right, since upside down the patient would be in another position.
    mirrored = (rng.random(count) < 0.5)[unit]
    shifts = rng.integers(-max_shift, max_shift + 1, (count, 2))[unit]
    gains = np.exp(rng.normal(0.0, GAIN_SPREAD, count))[unit].astype(np.float32)
    offsets = rng.normal(0.0, OFFSET_SPREAD, count)[unit].astype(np.float32)
    noise = rng.uniform(0.0, MAX_NOISE, count)[unit].astype(np.float32)
    moved = _move(images, mirrored, shifts * STRIDE, AIR).astype(np.float32)
    # In place, since a float copy of a batch takes megabytes.
    moved -= 128.0
    # Contrast is scaled about mid-grey: about 0 it would change the brightness too.
    moved *= gains[:, None, None]
    moved += (128.0 + offsets)[:, None, None]
    # float32 is precise enough for grey levels, and drawing it is faster.
    moved += noise[:, None, None] * rng.standard_normal(moved.shape, dtype=np.float32)
    np.clip(moved, 0.0, 255.0, out=moved)
    return moved, None if masks is None else _move(masks, mirrored, shifts, 0)


def _move(grids: np.ndarray, mirrored: np.ndarray, shifts: np.ndarray, fill: int) -> np.ndarray:
    """Mirror (left to right) and shift (by rows, columns) each grid; new cells are `fill`."""
    moved = np.full_like(grids, fill)
    height, width = grids.shape[1:]
    # Positive shifts go down and to the right.
    for target, source, flip, (down, right) in zip(moved, grids, mirrored, shifts, strict=True):
        seen = source[:, ::-1] if flip else source
        target[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = seen[
            max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
        ]
    return moved
