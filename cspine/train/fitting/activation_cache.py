"""Cache of a frozen trunk's activations, computed once for each image and augmented copy.

The file is a memory-mapped float16 array. Its name is a hash of everything that it depends on: the
images, which of them are twins (the same slices without their fractures), the trunk's weights, the
layer at which the trunk ends, the number of copies and their augmentation. If samples were selected
from others, as for the folds of a cross-validation, the activations of all of them are cached once.
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
from cspine.train.fitting.batches import Augment, as_pixels, pair_units

BATCH = 16  # even, so that no pair is split between two batches
# Increase this number if `augment` or the array's layout changes, since the key covers neither.
_FORMAT = "features-3"


@dataclass(frozen=True)
class FeatureSource:
    """Cached activations, float16 (copies, M, …); copy 0 is of the unchanged image.

    `rows` int64 (N,) are the samples' places among the M cached ones. `units` gives each sample's
    unit: a fracture and its twin are one unit, any other sample is a unit by itself.
    """

    features: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    units: np.ndarray
    has_masks: bool = False

    def take(
        self, indices: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[dict[str, np.ndarray], None]:
        """Return the activations of some samples, and no masks.

        Args:
            indices: int64 (B,), the samples.
            rng: draws the copy, which is the same for all samples of a unit; None means copy 0.

        Returns:
            {"features": float32 (B, …)} and None.
        """
        copies = np.zeros(len(indices), np.int64)
        if rng is not None:
            _, unit = np.unique(self.units[indices], return_inverse=True)
            copies = rng.integers(0, len(self.features), int(unit.max()) + 1)[unit]
        return {"features": self.features[copies, self.rows[indices]].astype(np.float32)}, None


def cache_features(
    trunk: keras.Model,
    samples: Samples,
    name: str,
    cache: Path,
    copies: int,
    augment: Augment | None = None,
) -> FeatureSource:
    """Return the activations of `samples` after `trunk`, computing them if the cache lacks them.

    Args:
        trunk: pixels → {"features": …}.
        samples: the N crops.
        name: the trunk's name and its last layer; the key covers this text and the trunk's
            weights.
        cache: the folder of the cached files.
        copies: the number of copies of each image: one unchanged, the others augmented.
        augment: the augmentation; needed for more than one copy.
    """
    whole = samples.selected_from or samples
    rows = np.arange(len(samples)) if samples.rows is None else samples.rows
    key = _content_key(trunk, whole, f"{name} {getattr(augment, '__name__', None)}", copies)
    path = cache / f"features-{key[:24]}.npy"
    if not path.is_file():
        # Seeded by the content, so that every run would write the same file.
        _write_features(trunk, whole, path, copies, augment, seed=int(key[:8], 16))
    features = np.load(path, mmap_mode="r")
    return FeatureSource(features, rows, samples.labels, pair_units(samples))


def _content_key(trunk: keras.Model, samples: Samples, name: str, copies: int) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {name} {samples.images.shape} {copies}".encode())
    # The pixels themselves, since `samples.key` does not change when some samples are selected.
    for start in range(0, len(samples), BATCH):
        digest.update(np.ascontiguousarray(samples.images[start : start + BATCH]).tobytes())
    digest.update(pair_units(samples).tobytes())
    # The same trunk with other weights gives other activations.
    for array in trunk.get_weights():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _write_features(
    trunk: keras.Model,
    samples: Samples,
    path: Path,
    copies: int,
    augment: Augment | None,
    seed: int,
) -> None:
    """Run the trunk on every copy and write the file, which appears only when it is complete."""
    shape = (copies, len(samples), *trunk.output["features"].shape[1:])
    rng = np.random.default_rng(seed)
    units = pair_units(samples)
    order = _order_pairs_first(units)
    steps = [(c, start) for c in range(copies) for start in range(0, len(samples), BATCH)]
    with written_whole(path) as part:
        # float16 halves the file and suffices: activations after batch norm are of order one.
        features = np.lib.format.open_memmap(part, "w+", np.float16, shape)
        for copy, start in progress(steps, "activations"):
            indices = order[start : start + BATCH]
            images = samples.images[indices]
            # Copy 0 is what serving sees; the others are augmented.
            if copy and augment is not None:
                images, _ = augment(images, None, units[indices], rng)
            # Inference mode: batch norms use the statistics that they were trained with.
            outputs = trunk.predict_on_batch(as_pixels(images))
            features[copy, indices] = np.asarray(outputs["features"], np.float16)
        features.flush()


def _order_pairs_first(units: np.ndarray) -> np.ndarray:
    """Return sample indices, int64 (N,), sorted by unit with pairs before single samples.

    A fracture and its twin then share a batch and get the same draw of `augment`.
    """
    _, unit, counts = np.unique(units, return_inverse=True, return_counts=True)
    # `lexsort` sorts by its last key first: by the group's size, then by unit.
    return np.lexsort((unit, -counts[unit]))
