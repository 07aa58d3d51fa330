"""Training from scratch in two stages: parts of the crops first, then whole crops.

A fracture is small and the network is convolutional, so most of what there is to learn can be
learned on parts of a crop at a fraction of the cost: with masks, a part that holds the fracture,
and the same part of its twin. The last epochs see whole crops, as serving does. Without masks a
part's label is not known, and there is one stage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cspine.data.pipeline import MASK_STRIDE, Samples
from cspine.model.classifier import Classifier, build_classifier
from cspine.train.fit import Clock, Fit, FitPlan, FitResult, join_results, score_source
from cspine.train.sources import PixelSource, Source

PARTS_SHARE = 0.75  # of epochs and time
WHOLE_RATE = 0.3  # of the peak rate, once the crops are whole


@dataclass(frozen=True)
class PartSource:
    """Square parts, `side` pixels, of the crops of `whole`; a part of a fracture shows some of it.

    Parts are aligned to the masks' cells. A unit's samples share their place.
    """

    whole: PixelSource
    side: int
    has_masks: bool = True

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return self.whole.labels

    @property
    def units(self) -> np.ndarray:
        """int64 (N,)."""
        return self.whole.units

    def take(
        self, indices: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Pixels float32 (B, side, side, 3) and masks uint8 (B, side // 8, side // 8)."""
        pixels, masks = self.whole.take(indices, rng)
        assert masks is not None
        rng = rng or np.random.default_rng(0)
        cells, size = self.side // MASK_STRIDE, masks.shape[1]
        corners = choose_corners(masks, self.units[indices], cells, rng)
        taken = np.empty((len(indices), self.side, self.side, 3), np.float32)
        parts = np.empty((len(indices), cells, cells), np.uint8)
        for number, (row, column) in enumerate(np.minimum(corners, size - cells)):
            y, x = row * MASK_STRIDE, column * MASK_STRIDE
            taken[number] = pixels[number, y : y + self.side, x : x + self.side]
            parts[number] = masks[number, row : row + cells, column : column + cells]
        return taken, parts


def choose_corners(
    masks: np.ndarray, units: np.ndarray, cells: int, rng: np.random.Generator
) -> np.ndarray:
    """Upper left cells, int64 (B, 2), of parts `cells` wide in masks (B, h, w).

    A part of a mask that is not empty holds one of its cells, drawn at random, not at the part's
    rim where there is room; equal units get the same part.
    """
    room = masks.shape[1] - cells
    corners: dict[int, np.ndarray] = {}
    # Fractures first: their twins follow them.
    for index in np.argsort(~masks.any(axis=(1, 2)), kind="stable"):
        if int(units[index]) in corners:
            continue
        corner = rng.integers(0, room + 1, 2)
        if masks[index].any():
            seen = rng.choice(np.argwhere(masks[index]))
            corner = seen - rng.integers(1, max(cells - 1, 2), 2)
        corners[int(units[index])] = np.clip(corner, 0, room)
    return np.stack([corners[int(unit)] for unit in units])


def part_side(image_size: int) -> int:
    """Pixels a side of a part: half the crop, in whole cells of 16 pixels, at least 48."""
    return max(48, image_size // 2 // 16 * 16)


def fit_scratch(
    classifier: Classifier,
    train: Samples,
    held_out: Samples | None,
    plan: FitPlan,
    augmented: bool,
    clock: Clock,
    folder: Path,
    key: str,
) -> FitResult:
    """Fit a whole network from pixels; `classifier` holds the best weights afterwards."""
    whole = PixelSource.of(train, classifier.map_head, augmented)
    judged = None if held_out is None else PixelSource.of(held_out, False)
    side, early = part_side(classifier.image_size), round(PARTS_SHARE * plan.epochs)
    if not classifier.map_head or side >= classifier.image_size or early == 0:
        return Fit(classifier.training, whole, judged, plan).run(clock, folder / "fit.npz", key)
    small = build_classifier(classifier.name, side, "none", plan.seed, map_head=True)

    def score(source: Source) -> np.ndarray:
        classifier.training.set_weights(small.training.get_weights())
        return score_source(classifier.training, source)

    first = Fit(small.training, PartSource(whole, side), judged, replace(plan, epochs=early), score)
    parts = first.run(clock.part(PARTS_SHARE), folder / "parts.npz", key)
    classifier.training.set_weights(small.training.get_weights())
    if parts.stopped == "interrupted":
        return parts
    later = replace(plan, epochs=plan.epochs - early, learning_rate=WHOLE_RATE * plan.learning_rate)
    last = Fit(classifier.training, whole, judged, later)
    before = classifier.training.get_weights()
    result = last.run(clock.part(1.0), folder / "whole.npz", key)
    if held_out is not None and result.best_value < parts.best_value:
        classifier.training.set_weights(before)
    return join_results({"parts": parts, "whole": result}, held_out is not None)
