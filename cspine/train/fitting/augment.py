"""Changes that another scan of the same neck could show: mirrored, shifted, re-windowed, noisier.

Vectorised numpy on uint8 crops; a mask follows its image. A fracture and its twin get the same
draw, so that the fracture stays their only difference. It knows no labels and no network.
"""

from __future__ import annotations

import numpy as np

from cspine.imaging.preprocess import AIR

STRIDE = 8  # of masks; shifts are whole cells, so that image and mask move alike
# Two cells are 16 pixels, well inside a crop of 192: the fracture stays in it.
MAX_SHIFT_CELLS = 2
# Of contrast: the window's width, drawn log-normally.
GAIN_SPREAD = 0.15
OFFSET_SPREAD = 12.0  # grey levels: the window's centre
# A few grey levels: they vary the noise and do not hide a hairline.
MAX_NOISE = 4.0  # grey levels, standard deviation


def augment(
    images: np.ndarray,
    masks: np.ndarray | None,
    units: np.ndarray,
    rng: np.random.Generator,
    max_shift: int = MAX_SHIFT_CELLS,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return changed copies of crops.

    Args:
        images: uint8 (B, S, S).
        masks: uint8 (B, S // 8, S // 8) 0/1, or None.
        units: int (B,); equal numbers get the same draw (noise excepted).
        rng: the draw's only source.
        max_shift: cells by which a crop may move.

    Returns:
        images float32 (B, S, S) in 0…255 and masks uint8, as given.
    """
    # Everything but the noise is drawn by unit, not by image: a twin that was shifted or windowed
    # otherwise would differ from its fracture by more than the fracture.
    _, unit = np.unique(units, return_inverse=True)
    count = int(unit.max()) + 1
    # Left for right alone: upside down would be a patient who lies another way.
    mirrored = (rng.random(count) < 0.5)[unit]
    shifts = rng.integers(-max_shift, max_shift + 1, (count, 2))[unit]
    gains = np.exp(rng.normal(0.0, GAIN_SPREAD, count))[unit].astype(np.float32)
    offsets = rng.normal(0.0, OFFSET_SPREAD, count)[unit].astype(np.float32)
    noise = rng.uniform(0.0, MAX_NOISE, count)[unit].astype(np.float32)
    moved = _move(images, mirrored, shifts * STRIDE, AIR).astype(np.float32)
    # In place: each copy of a batch of float crops is megabytes.
    moved -= 128.0
    # Contrast turns about mid-grey: about 0 it would move the brightness too.
    moved *= gains[:, None, None]
    moved += (128.0 + offsets)[:, None, None]
    # Drawn in float32: grey levels need no more.
    moved += noise[:, None, None] * rng.standard_normal(moved.shape, dtype=np.float32)
    np.clip(moved, 0.0, 255.0, out=moved)
    return moved, None if masks is None else _move(masks, mirrored, shifts, 0)


def _move(grids: np.ndarray, mirrored: np.ndarray, shifts: np.ndarray, fill: int) -> np.ndarray:
    """Mirror left–right where asked and shift by (rows, columns), filling what comes in."""
    # What comes in from outside is air, as at the edge of a real crop.
    moved = np.full_like(grids, fill)
    height, width = grids.shape[1:]
    # Positive shifts go down and to the right.
    for target, source, flip, (down, right) in zip(moved, grids, mirrored, shifts, strict=True):
        seen = source[:, ::-1] if flip else source
        target[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = seen[
            max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
        ]
    return moved
