"""The published training recipe, called the rival: its network, optimiser and split of the files.

- Network: two strided convolutions with 64 and 32 filters, dropout 0.2, batch norm, max-pool, dense
  layer of 64, sigmoid. Input: 224² pixels, divided by 255.
- Training: SGD, batches of 16, 20 epochs. The learning rate starts at 0.01 and is multiplied by 0.1
  after two epochs without a better validation accuracy. The epoch with the best one is kept.
- Validation: the first fifth of each class's files, sorted by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from cspine.core.labels import CLASS_NAMES
from cspine.imaging.channels import as_network_input

# The numbers of the published recipe. With any other number it would not be that recipe.
SIDE_PX = 224
BATCH = 16
EPOCHS = 20
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Files:
    """N files: first the normal ones, then the fractured ones, each sorted by name.

    `images` uint8 (N, 224, 224), one channel, which the network gets three times; `labels` int
    (N,); `names` str (N,); `slices` str (N,), the name without the suffix of a copy; `groups` str
    (N,), the series.
    """

    images: np.ndarray
    labels: np.ndarray
    names: np.ndarray
    slices: np.ndarray
    groups: np.ndarray

    def take(self, chosen: np.ndarray) -> Files:
        """Return the files that `chosen`, a mask or indices, selects."""
        return Files(*(values[chosen] for values in vars(self).values()))

    def keep_copies(self, copies: int) -> Files:
        """Return each slice's original and its first `copies` copies."""
        _, slices = np.unique(self.slices, return_inverse=True)
        # Sorting by name puts the original first, because the copies' names only add a suffix.
        order = np.lexsort((self.names, slices))
        places = np.empty(len(order), np.int64)
        starts = np.searchsorted(slices[order], np.arange(slices.max() + 1))
        places[order] = np.arange(len(order)) - starts[slices[order]]
        return self.take(places <= copies)


def read_files(folder: Path) -> Files:
    """Read every file of a tree with one folder per class, resized as in the published recipe."""
    rows = []
    for label, name in enumerate(CLASS_NAMES):
        paths = folder.rglob(f"{name}/*.png")
        rows += [(path, label) for path in sorted(paths, key=lambda path: path.name)]
    images = np.empty((len(rows), SIDE_PX, SIDE_PX), np.uint8)
    for index, (path, _) in enumerate(rows):
        with Image.open(path) as picture:
            images[index] = np.asarray(
                picture.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
            )
    names = [path.stem for path, _ in rows]
    slices = [name.split(")")[0] + ")" for name in names]  # `CSFDV1B10 (18)-rotated1`
    series = [name.split(" (")[0] for name in names]
    return Files(
        images, np.array([label for _, label in rows]), *map(np.array, (names, slices, series))
    )


def build_network(seed: int) -> keras.Model:
    """Return the published network with random initial weights."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((SIDE_PX, SIDE_PX, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(64, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Dropout(0.2),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    network.compile(keras.optimizers.SGD(0.01), "binary_crossentropy", metrics=["accuracy"])
    return network


class Batches(keras.utils.PyDataset):
    """Batches of 16 with three equal channels, each made when Keras asks for it.

    Shuffled every epoch, unless `seed` is None.
    """

    def __init__(self, files: Files, seed: int | None) -> None:
        super().__init__()
        self.files, self.rng = files, None if seed is None else np.random.default_rng(seed)
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        """Shuffle the files again."""
        count = len(self.files.labels)
        self.order = np.arange(count) if self.rng is None else self.rng.permutation(count)

    def __len__(self) -> int:
        return -(-len(self.order) // BATCH)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        # Sorted, because memory-mapped pictures are read faster in their order.
        chosen = np.sort(self.order[index * BATCH : (index + 1) * BATCH])
        pixels = self.files.images[chosen].astype(np.float32)
        return as_network_input(pixels), self.files.labels[chosen].astype(np.float32)


@dataclass(frozen=True)
class Rival:
    """A fitted network, its validation files, and its probabilities and accuracy on them."""

    network: keras.Model
    validation: Files
    probabilities: np.ndarray
    accuracy: float
    best_epoch: int

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return P(fracture), float64 (N,), for uint8 (N, 224, 224)."""
        return predict(self.network, images)


def predict(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return P(fracture), float64 (N,), for uint8 (N, 224, 224)."""
    parts = []
    for start in range(0, len(images), 64):
        pixels = as_network_input(images[start : start + 64].astype(np.float32))
        parts.append(np.asarray(network.predict_on_batch(pixels))[:, 0])
    return np.concatenate(parts).astype(np.float64)


def split_sorted(labels: np.ndarray) -> np.ndarray:
    """Return bool (N,), True for validation: the first fifth of each class, in the given order."""
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        held_out[mine[: int(VALIDATION_SHARE * len(mine))]] = True
    return held_out


def fit_rival(files: Files, seed: int, epochs: int = EPOCHS) -> Rival:
    """Fit the published network to `files` as the published recipe does."""
    held_out = split_sorted(files.labels)
    validation = files.take(held_out)
    network = build_network(seed)
    # With a patience of all epochs the callback never stops; it only keeps the best epoch.
    best = keras.callbacks.EarlyStopping(
        "val_accuracy", patience=epochs, mode="max", restore_best_weights=True
    )
    slower = keras.callbacks.ReduceLROnPlateau("val_accuracy", 0.1, patience=2, mode="max")
    network.fit(
        Batches(files.take(~held_out), seed),
        validation_data=Batches(validation, None),
        epochs=epochs,
        callbacks=[best, slower],
        verbose=0,
    )
    said = predict(network, validation.images)
    accuracy = float(((said >= 0.5) == (validation.labels == 1)).mean())
    # Keras counts epochs from 0.
    return Rival(network, validation, said, accuracy, int(best.best_epoch) + 1)


def claim(files: Files, seed: int, epochs: int) -> dict[str, Any]:
    """Return the rival's accuracy on a split by file: on validation and on a random tenth."""
    rng = np.random.default_rng(seed)
    held_out = rng.permutation(len(files.labels)) % 10 == 0
    rival = fit_rival(files.take(~held_out), seed, epochs)
    test = files.take(held_out)
    right = (rival.predict(test.images) >= 0.5) == (test.labels == 1)
    shared = np.isin(test.slices, files.slices[~held_out]).mean()
    return {
        "accuracy": float(right.mean()),
        "files": len(right),
        "share_of_slices_also_in_training": float(shared),
        "validation_accuracy": rival.accuracy,
        "best_epoch": rival.best_epoch,
    }
