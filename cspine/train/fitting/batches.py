"""Sources of training batches, and the order in which samples are batched.

A source gives the labels of all its samples, and the network inputs and masks of those that the
caller selects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cspine.core.labels import FRACTURE
from cspine.data.samples import Samples
from cspine.imaging.preprocess import as_network_input
from cspine.train.fitting.augment import augment
from cspine.train.fitting.augment_slices import augment_slices


class Source(Protocol):
    """Samples that `Trainer` can fit or score: crops, or cached activations."""

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        ...

    @property
    def units(self) -> np.ndarray:
        """int64 (N,): a fracture and its twin are one unit, usually in one batch."""
        ...

    @property
    def has_masks(self) -> bool:
        """Whether `take` returns masks."""
        ...

    def take(
        self, indices: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[Any, np.ndarray | None]:
        """Return inputs (B, …) and masks (B, h, w) or None; augmented only if `rng` is given."""
        ...


Augment = Callable[..., tuple[np.ndarray, np.ndarray | None]]


def choose_augment(view: str | None, with_masks: bool) -> Augment:
    """Return the augmentation for a view: `augment_slices` for complete slices without masks."""
    return augment_slices if view == "slice" and not with_masks else augment


@dataclass(frozen=True)
class PixelSource:
    """Images as network inputs; `augment` is None if they are not augmented."""

    samples: Samples
    labels: np.ndarray
    units: np.ndarray
    has_masks: bool
    augment: Augment | None

    @classmethod
    def of(
        cls, samples: Samples, with_masks: bool, augment: Augment | None = augment
    ) -> PixelSource:
        """Return a source of these samples; it has masks if they do and `with_masks` is set."""
        has_masks = with_masks and samples.masks is not None
        return cls(samples, samples.labels, pair_units(samples), has_masks, augment)

    def take(
        self, indices: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return pixels float32 (B, S, S, 3) in 0…255 and masks uint8 (B, S // 8, S // 8) or None.

        They are augmented only if `rng` and `augment` are given.
        """
        images, masks = self.samples.images[indices], self.samples.masks
        masks = np.asarray(masks[indices]) if self.has_masks and masks is not None else None
        if rng is not None and self.augment is not None:
            images, masks = self.augment(images, masks, self.units[indices], rng)
        return as_pixels(images), masks


def as_pixels(images: np.ndarray) -> np.ndarray:
    """Return grey crops (B, S, S) as float32 (B, S, S, 3), the input of every backbone."""
    return as_network_input(np.asarray(images, np.float32))


def pair_units(samples: Samples) -> np.ndarray:
    """Return a unit number per sample, int64 (N,): equal for a fractured slice and its twin.

    A twin is the same slice without its fracture.
    """
    # Pairs are found by slice id, because a twin is not next to its original: twins come after all
    # originals.
    slices = np.unique(samples.slice_ids, return_inverse=True)[1].astype(np.int64)
    paired = samples.is_twin | np.isin(slices, slices[samples.is_twin])
    originals = paired & ((samples.labels == FRACTURE) | samples.is_twin)
    # Other samples get higher numbers than any slice, so that none joins a pair by chance.
    return np.where(originals, slices, slices.max(initial=0) + 1 + np.arange(len(slices)))


def deal_batches(units: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffle the units and divide their samples into batches of equal size.

    Every sample occurs once; the last batch is filled up with samples of the first, since a batch
    of another size would need another compiled graph. The samples of a unit are adjacent, so they
    are nearly always in one batch.

    Args:
        units: int64 (N,).
        batch_size: samples per batch, at least 1; N is used if it is smaller.
        rng: draws the order.

    Returns:
        Sample indices int64 (batch_size,) of each batch.
    """
    _, unit = np.unique(units, return_inverse=True)
    place = rng.permutation(int(unit.max()) + 1)[unit]
    # A stable sort, so that the same seed gives the same batches.
    order = np.argsort(place, kind="stable")
    size = min(batch_size, len(order))
    # `resize` repeats from the start, which is random too.
    order = np.resize(order, -(-len(order) // size) * size)
    return list(order.reshape(-1, size))
