"""A tiny set in the published layout: bright discs on a body, cut by a dark line where broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_tree(root: Path, count: int = 40) -> Path:
    """Write `count` slices, each a series of its own, 224² RGB, half of them fractures.

    Discs lie at random places, so that no slice passes for another's copy.
    """
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:224, :224]
    for number in range(count):
        label = ("normal", "fracture")[number % 2]
        y, x = rng.integers(80, 140, 2)
        image = np.where(np.hypot(rows - 112, columns - 112) < 95, 110, 0)
        image = np.where(np.hypot(rows - y, columns - x) < 30, 220, image)
        if number % 2:
            image[:, x - 4 : x + 4] = 110
        noisy = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        path = root / "train" / label / f"CSFDV1B{number + 1} (1).png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).convert("RGB").save(path)
    return root
