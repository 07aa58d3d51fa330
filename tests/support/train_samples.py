"""Tiny samples: bright discs, half of them cut by a dark line, each cut one with its twin."""

from __future__ import annotations

import numpy as np

from cspine.data.samples import Samples


def draw_samples(count: int = 24, size: int = 32, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    whole = np.where(np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]) < 0.7, 200, 20)
    cut = whole.copy()
    cut[:, size // 2 - 2 : size // 2 + 2] = 20
    images = np.stack([cut if label else whole for label in labels])
    twins = np.repeat(whole[None], labels.sum(), axis=0)
    images = np.concatenate([images, twins]) + rng.normal(0, 8, (count + len(twins), size, size))
    masks = np.zeros((len(images), size // 8, size // 8), np.uint8)
    masks[:count][labels == 1, :, size // 16 - 1 : size // 16 + 1] = 1
    names = np.array([f"s{i}" for i in range(count)])
    of = np.concatenate([np.arange(count), np.flatnonzero(labels)])
    return Samples(
        images=np.clip(images, 0, 255).astype(np.uint8),
        labels=np.concatenate([labels, np.zeros(len(twins), np.int64)]),
        masks=masks,
        groups=np.array([f"p{i // 2}" for i in of]),
        slice_ids=names[of],
        widths_mm=np.full(len(of), np.nan),
        is_twin=np.arange(len(of)) >= count,
        left_out=0,
        image_ok=np.ones(len(of), bool),
        key=f"drawn {count} {size} {seed}",
    )
