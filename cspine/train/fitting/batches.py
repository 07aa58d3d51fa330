"""What a fitting loop draws its batches from: crops on disk, or activations cached before.

A source knows its labels, its masks where there are any, and how to give the network's inputs for
some of its samples; it knows no loss and no schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cspine.core.labels import FRACTURE
from cspine.data.samples import Samples
from cspine.imaging.preprocess import as_network_input
from cspine.train.fitting.augment import augment


class Source(Protocol):
    """Anything that `Trainer` can learn from."""

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        ...

    @property
    def units(self) -> np.ndarray:
        """int64 (N,): samples of one unit stay in one batch."""
        ...

    @property
    def has_masks(self) -> bool:
        """Whether `take` gives masks."""
        ...

    def take(
        self, indices: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[Any, np.ndarray | None]:
        """Inputs and masks (B, h, w) of some samples; with `rng` augmented, else as they are."""
        ...


@dataclass(frozen=True)
class PixelSource:
    """Crops, as float32 pixels (B, S, S, 3) in 0…255."""

    samples: Samples
    labels: np.ndarray
    units: np.ndarray
    has_masks: bool
    augmented: bool = True

    @classmethod
    def of(cls, samples: Samples, with_masks: bool, augmented: bool = True) -> PixelSource:
        """The source of these samples; `with_masks` only where they have masks."""
        has_masks = with_masks and samples.masks is not None
        return cls(samples, samples.labels, pair_units(samples), has_masks, augmented)

    def take(
        self, indices: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Pixels float32 (B, S, S, 3) and masks uint8 (B, S // 8, S // 8) or None."""
        images = self.samples.images[indices]
        masks = self._masks(indices)
        if rng is not None and self.augmented:
            images, masks = augment(images, masks, self.units[indices], rng)
        return as_pixels(images), masks

    def _masks(self, indices: np.ndarray) -> np.ndarray | None:
        masks = self.samples.masks
        return np.asarray(masks[indices]) if self.has_masks and masks is not None else None


def as_pixels(images: np.ndarray) -> np.ndarray:
    """Grey crops (B, S, S) as float32 (B, S, S, 3), what every backbone takes."""
    return as_network_input(np.asarray(images, np.float32))


def pair_units(samples: Samples) -> np.ndarray:
    """One number a sample, int64 (N,): a fractured slice and its twin share theirs."""
    # By slice and not by order: twins come after all originals.
    slices = np.unique(samples.slice_ids, return_inverse=True)[1].astype(np.int64)
    paired = samples.is_twin | np.isin(slices, slices[samples.is_twin])
    originals = paired & ((samples.labels == FRACTURE) | samples.is_twin)
    # Other samples get numbers beyond all slices', so that none joins a pair by chance.
    return np.where(originals, slices, slices.max(initial=0) + 1 + np.arange(len(slices)))


def deal_batches(units: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffle units and deal their samples into batches of one size.

    Every sample comes once; the last batch is filled up from the first ones, since another size
    would be another graph to compile. A unit's samples are neighbours, nearly always in one batch.
    """
    _, unit = np.unique(units, return_inverse=True)
    # Units are shuffled and not samples, so a pair keeps together.
    place = rng.permutation(int(unit.max()) + 1)[unit]
    # Stable, so that samples of a unit keep their order and the same seed deals the same batches.
    order = np.argsort(place, kind="stable")
    size = min(batch_size, len(order))
    # Repeats from the start, which is a random order anyway.
    order = np.resize(order, -(-len(order) // size) * size)
    return list(order.reshape(-1, size))
