"""Training from scratch in stages: small parts of the crops first, whole crops last.

A fracture is small and the network is convolutional, so most of what there is to learn can be
learned on parts of a crop at a fraction of the cost: with masks, a part that holds the fracture,
the same part of its twin, and parts of other slices where fractures come. The last epochs see whole
crops, as serving does. Without masks a part's label is not known, and there is one stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cspine.data.masks import MASK_STRIDE
from cspine.data.samples import Samples
from cspine.model.networks.classifier import Classifier, build_classifier
from cspine.train.fitting.augment import augment
from cspine.train.fitting.batches import PixelSource, Source, as_pixels
from cspine.train.fitting.result import FitResult, join_results
from cspine.train.fitting.trainer import FitPlan, TimeBudget, Trainer, score_source


@dataclass(frozen=True)
class Stage:
    """Parts of `sixths` / 6 of the crop's side, for a share of the work and of the time.

    `first` and `last` are the shares of the peak learning rate that the stage starts and ends at.
    """

    sixths: int
    share: float
    first: float
    last: float


# A third of the side is a ninth of the work, and still holds a fracture and what is around it.
STAGES = (Stage(2, 0.7, 1.0, 0.3), Stage(6, 0.3, 0.3, 0.002))
# Six cells of the map; below it there is no context left at all.
MIN_SIDE = 48


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
        masks = np.asarray(self.whole.samples.masks)[indices]
        # Parts are never judged; this is for a caller that asks for a part without drawing.
        rng = rng or np.random.default_rng(0)
        units, cells = self.units[indices], self.side // MASK_STRIDE
        corners = choose_corners(masks, units, cells, rng)
        images = np.empty((len(indices), self.side, self.side), np.uint8)
        parts = np.empty((len(indices), cells, cells), np.uint8)
        for number, (row, column) in enumerate(corners):
            y, x = row * MASK_STRIDE, column * MASK_STRIDE
            crop = self.whole.samples.images[indices[number]]
            images[number] = crop[y : y + self.side, x : x + self.side]
            parts[number] = masks[number, row : row + cells, column : column + cells]
        # Parts are drawn anew each time, which is a change of its own.
        if not self.whole.augmented:
            return as_pixels(images), parts
        # The part's own place is its shift.
        changed, moved = augment(images, parts, units, rng, max_shift=0)
        return as_pixels(changed), moved


def choose_corners(
    masks: np.ndarray, units: np.ndarray, cells: int, rng: np.random.Generator
) -> np.ndarray:
    """Upper left cells, int64 (B, 2), of parts `cells` wide in masks (B, h, w).

    A part of a mask that is not empty holds one of its cells, drawn at random, not at the part's
    rim where there is room. Other parts lie where another mask of the batch has a cell, so that the
    place gives nothing away. Equal units get the same part.
    """
    room = masks.shape[1] - cells
    # Where the batch has no fracture, `places` is the whole grid.
    places = np.argwhere(masks.any(axis=0)) if masks.any() else np.argwhere(masks[0] == 0)
    corners: dict[int, np.ndarray] = {}
    # Fractures first: their twins follow them.
    for index in np.argsort(~masks.any(axis=(1, 2)), kind="stable"):
        if int(units[index]) in corners:
            continue
        own = np.argwhere(masks[index])
        seen = rng.choice(own if len(own) else places)
        # From 1 and not 0: off the rim, where padding is all that is seen beyond.
        corner = seen - rng.integers(1, max(cells - 1, 2), 2)
        corners[int(units[index])] = np.clip(corner, 0, room)
    return np.stack([corners[int(unit)] for unit in units])


def part_side(image_size: int, sixths: int) -> int:
    """Pixels a side of a part, in whole cells of 16 pixels, at least 48 and at most the crop."""
    # The coarsest branch of `cnn` is at stride 16: such a side halves evenly down to it.
    return min(max(MIN_SIDE, image_size * sixths // 6 // 16 * 16), image_size)


def fit_scratch(
    classifier: Classifier,
    train: Samples,
    held_out: Samples | None,
    plan: FitPlan,
    augmented: bool,
    clock: TimeBudget,
    folder: Path,
    key: str,
    stages: Sequence[Stage] = STAGES,
) -> FitResult:
    """Fit a whole network from pixels; `classifier` holds the best weights afterwards.

    The plan's epochs are of whole crops; a stage makes up for smaller parts by more of its own.
    Without masks, or with fewer epochs than `stages`, there is one stage of whole crops.
    """
    whole = PixelSource.of(train, classifier.map_head, augmented)
    judged = None if held_out is None else PixelSource.of(held_out, False)
    if not classifier.map_head or plan.epochs < len(stages):
        return Trainer(classifier.training, whole, judged, plan).run(clock, folder / "fit.npz", key)
    results: dict[str, FitResult] = {}
    left = 1.0
    for stage in stages:
        side = part_side(classifier.image_size, stage.sixths)
        # So many parts cost what one crop does.
        area = (classifier.image_size / side) ** 2
        part_plan = replace(
            plan,
            epochs=max(1, round(stage.share * plan.epochs * area)),
            learning_rate=stage.first * plan.learning_rate,
            final_rate=stage.last / stage.first,
            # A later stage goes on at the rate where the last one ended: no new rise, only a
            # little for the optimizer's fresh moments.
            warmup=plan.warmup if stage is stages[0] else 0.01,
        )
        fit = _fit_parts(classifier, whole, judged, part_plan, side)
        name = f"{side} pixels"
        try:
            results[name] = fit.run(clock.part(stage.share / left), folder / f"{side}px.npz", key)
        except KeyboardInterrupt:
            if not results:
                raise
            # As this stage found them.
            classifier.training.set_weights(fit.best)
            return _judge_once(classifier, judged, results)
        left -= stage.share
        # Parts were learned by a graph with variables of its own.
        classifier.training.set_weights(fit.network.get_weights())
        if results[name].stopped == "interrupted" and stage is not stages[-1]:
            return _judge_once(classifier, judged, results)
    return replace(join_results(results), fixed_schedule=True)


def _fit_parts(
    classifier: Classifier, whole: PixelSource, judged: Source | None, plan: FitPlan, side: int
) -> Trainer:
    """A fit of the classifier's weights on parts `side` pixels wide; only whole crops are judged.

    Judging takes whole crops, and would cost as much as an epoch on small parts.
    """
    if side == classifier.image_size:
        return Trainer(classifier.training, whole, judged, plan)
    # Another graph and not the same one: shapes are static, so each is compiled once and fast.
    small = build_classifier(classifier.name, side, "none", plan.seed, map_head=True).training
    # Weights do not depend on the side: the network is convolutional throughout.
    small.set_weights(classifier.training.get_weights())
    return Trainer(small, PartSource(whole, side), None, plan)


def _judge_once(
    classifier: Classifier, judged: Source | None, results: dict[str, FitResult]
) -> FitResult:
    """The result of a fit that was interrupted before whole crops: its last weights, scored."""
    joined = replace(join_results(results), stopped="interrupted")
    if judged is None:
        return joined
    logits = score_source(classifier.training, judged)
    # A row an epoch, as elsewhere, though only the last weights could be scored.
    return replace(joined, held_out=np.tile(logits, (len(joined.history), 1)))
