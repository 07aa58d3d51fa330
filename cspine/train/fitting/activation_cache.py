"""Activations of a frozen trunk, computed once for each image and augmented copy.

Kept as memory-mapped float16 under a key of all that they depend on: the images, which of them are
twins, the trunk's weights, the cut and the copies. It knows nothing of what is trained on them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from cspine.core.atomic_write import written_whole
from cspine.core.progress import progress
from cspine.data.samples import Samples
from cspine.train.fitting.augment import augment
from cspine.train.fitting.batches import as_pixels, pair_units

BATCH = 16  # even, so that no pair is parted
# Raised where `augment` or the arrays' form changes: the key holds nothing else of either.
_FORMAT = "features-2"


@dataclass(frozen=True)
class FeatureSource:
    """Cached activations, float16 (copies, N, …); copy 0 is of the image as it is."""

    features: np.ndarray
    labels: np.ndarray
    units: np.ndarray
    has_masks: bool = False

    def take(
        self, indices: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[dict[str, np.ndarray], None]:
        """Activations float32 (B, …) of some samples; with `rng` of any copy, else of the first.

        Samples of one unit are of one copy.
        """
        # Copy 0, the image as it is, for judging and for whoever draws nothing.
        copies = np.zeros(len(indices), np.int64)
        if rng is not None:
            _, unit = np.unique(self.units[indices], return_inverse=True)
            copies = rng.integers(0, len(self.features), int(unit.max()) + 1)[unit]
        return {"features": self.features[copies, indices].astype(np.float32)}, None


def cache_features(
    trunk: keras.Model, samples: Samples, name: str, cache: Path, copies: int
) -> FeatureSource:
    """The activations of `samples` after `trunk`, from the cache where they were made before.

    `name` says which trunk and cut this is, for the key beside its weights; `copies` counts the
    unchanged image and `copies` − 1 augmented ones.
    """
    key = _content_key(trunk, samples, name, copies)
    path = cache / f"features-{key[:24]}.npy"
    if not path.is_file():
        # Seeded by the content: whichever run makes the entry, it is the same.
        _write_features(trunk, samples, path, copies, seed=int(key[:8], 16))
    features = np.load(path, mmap_mode="r")
    return FeatureSource(features, samples.labels, pair_units(samples))


def _content_key(trunk: keras.Model, samples: Samples, name: str, copies: int) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {name} {samples.images.shape} {copies}".encode())
    # The pixels themselves: `samples.key` is the same for every choice of some of the samples.
    for start in range(0, len(samples), BATCH):
        digest.update(np.ascontiguousarray(samples.images[start : start + BATCH]).tobytes())
    digest.update(pair_units(samples).tobytes())
    # The weights too: the same cut of another network is another function.
    for array in trunk.get_weights():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _write_features(
    trunk: keras.Model, samples: Samples, path: Path, copies: int, seed: int
) -> None:
    """Run the trunk over every copy and batch, into a file that appears when it is whole."""
    shape = (copies, len(samples), *trunk.output["features"].shape[1:])
    with written_whole(path) as part:
        # float16 halves the disk; activations after batch norm are of order one.
        features = np.lib.format.open_memmap(part, "w+", np.float16, shape)
        _fill_features(features, trunk, samples, seed)
        features.flush()


def _fill_features(features: np.ndarray, trunk: keras.Model, samples: Samples, seed: int) -> None:
    """Put the activations of every copy of every sample in their place."""
    copies = len(features)
    rng = np.random.default_rng(seed)
    units = pair_units(samples)
    order = _order_pairs_first(units)
    steps = [(c, start) for c in range(copies) for start in range(0, len(samples), BATCH)]
    for copy, start in progress(steps, "activations"):
        indices = order[start : start + BATCH]
        images = samples.images[indices]
        # Copy 0 stays as served; the others are drawn.
        if copy:
            images, _ = augment(images, None, units[indices], rng)
        # In inference mode: the trunk's norms use the statistics they were trained with.
        outputs = trunk.predict_on_batch(as_pixels(images))
        features[copy, indices] = np.asarray(outputs["features"], np.float16)


def _order_pairs_first(units: np.ndarray) -> np.ndarray:
    """Indices int64 (N,) by unit, pairs before singles: a fracture and its twin share a batch,
    and so `augment`'s draw, however far apart they lie."""
    _, unit, counts = np.unique(units, return_inverse=True, return_counts=True)
    # The last key is the first to sort by: larger groups, then the unit.
    return np.lexsort((unit, -counts[unit]))
