"""Training from scratch in stages: small parts of the crops first, complete crops last.

A fracture is small and the network is convolutional, so most can be learned on parts of a crop, at
a fraction of the cost: a part that holds the fracture, the same part of its twin (the same slice
without its fracture), and parts of other slices at places where fractures occur. The last epochs
use complete crops, as the service does. Without masks the label of a part is unknown, so there is
only one stage, with complete crops.
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
from cspine.train.fitting.batches import Augment, PixelSource, Source, as_pixels
from cspine.train.fitting.result import FitResult, join_results
from cspine.train.fitting.trainer import FitPlan, TimeBudget, Trainer, score_source


@dataclass(frozen=True)
class Stage:
    """A stage on parts of `sixths` / 6 of the crop's side, with `share` of the work and the time.

    `first` and `last` are the learning rate's start and end, as shares of its peak.
    """

    sixths: int
    share: float
    first: float
    last: float


# A third of the side is a ninth of the work, and still holds a fracture and its surroundings.
STAGES = (Stage(2, 0.7, 1.0, 0.3), Stage(6, 0.3, 0.3, 0.002))
MIN_SIDE = 48  # pixels: six cells of the map; smaller parts show no context


@dataclass(frozen=True)
class PartSource:
    """Square parts, `side` pixels wide, of the crops of `whole`.

    A part of a fractured slice shows some of the fracture. Parts are aligned to the cells of the
    masks. Samples of a unit (a fracture and its twin) are cut at the same place.
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
        """Return pixels float32 (B, side, side, 3) in 0…255 and masks uint8 (B, side // 8, …)."""
        masks = np.asarray(self.whole.samples.masks)[indices]
        # Parts are not scored, so `rng` is given in training; this is for other callers.
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
        if self.whole.augment is None:
            return as_pixels(images), parts
        # No shift, since the place of the part is random already.
        changed, moved = augment(images, parts, units, rng, max_shift=0)
        return as_pixels(changed), moved


def choose_corners(
    masks: np.ndarray, units: np.ndarray, cells: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw the parts of a batch.

    A part of a fractured slice holds a random cell of its mask, away from the part's rim if there
    is space. Other parts hold a cell of another mask of the batch, or any cell if all masks are
    empty, so that the place does not reveal the label. Samples of one unit get the same part.

    Args:
        masks: uint8 (B, h, w) in {0, 1}.
        units: int64 (B,).
        cells: the side of a part.
        rng: the source of every draw.

    Returns:
        Row and column of each part's upper left cell, int64 (B, 2).
    """
    room = masks.shape[1] - cells
    places = np.argwhere(masks.any(axis=0)) if masks.any() else np.argwhere(masks[0] == 0)
    corners: dict[int, np.ndarray] = {}
    # Fractures come before their twins, so that a twin gets its fracture's part.
    for index in np.argsort(~masks.any(axis=(1, 2)), kind="stable"):
        if int(units[index]) in corners:
            continue
        own = np.argwhere(masks[index])
        seen = rng.choice(own if len(own) else places)
        # From 1, since at offset 0 the cell would be at the part's rim, beside padding.
        corner = seen - rng.integers(1, max(cells - 1, 2), 2)
        corners[int(units[index])] = np.clip(corner, 0, room)
    return np.stack([corners[int(unit)] for unit in units])


def part_side(image_size: int, sixths: int) -> int:
    """Return a part's side in pixels: a multiple of 16, at least 48 and at most the crop's."""
    # The coarsest branch of `cnn` has stride 16.
    return min(max(MIN_SIDE, image_size * sixths // 6 // 16 * 16), image_size)


def fit_scratch(
    classifier: Classifier,
    train: Samples,
    held_out: Samples | None,
    plan: FitPlan,
    augment_batch: Augment | None,
    clock: TimeBudget,
    folder: Path,
    key: str,
    stages: Sequence[Stage] = STAGES,
) -> FitResult:
    """Fit all layers of a network from pixels.

    Without masks, or with fewer epochs than `stages`, there is one stage of complete crops.

    Args:
        classifier: holds the best weights afterwards.
        train: the samples to fit.
        held_out: the samples that choose the best epoch, or None.
        plan: its epochs are counted in complete crops; a stage of smaller parts has more epochs.
        augment_batch: the augmentation of training samples, or None.
        clock: the time limit of all stages together.
        folder, key: the folder of the checkpoints, and what identifies settings and data in them.
        stages: the stages in order; the last one uses complete crops.

    Raises:
        KeyboardInterrupt: it came before the end of the first epoch.
    """
    whole = PixelSource.of(train, classifier.map_head, augment_batch)
    judged = None if held_out is None else PixelSource.of(held_out, False)
    if not classifier.map_head or plan.epochs < len(stages):
        return Trainer(classifier.training, whole, judged, plan).run(clock, folder / "fit.npz", key)
    results: dict[str, FitResult] = {}
    left = 1.0
    for stage in stages:
        side = part_side(classifier.image_size, stage.sixths)
        area = (classifier.image_size / side) ** 2  # parts at the cost of one crop
        part_plan = replace(
            plan,
            epochs=max(1, round(stage.share * plan.epochs * area)),
            learning_rate=stage.first * plan.learning_rate,
            final_rate=stage.last / stage.first,
            # A later stage continues at the last rate; the optimizer's moments warm up.
            warmup=plan.warmup if stage is stages[0] else 0.01,
        )
        fit = _fit_parts(classifier, whole, judged, part_plan, side)
        name = f"{side} pixels"
        try:
            results[name] = fit.run(clock.part(stage.share / left), folder / f"{side}px.npz", key)
        except KeyboardInterrupt:
            if not results:
                raise
            # The weights from before this stage.
            classifier.training.set_weights(fit.best)
            return _judge_once(classifier, judged, results)
        left -= stage.share
        classifier.training.set_weights(fit.network.get_weights())
        if results[name].stopped == "interrupted" and stage is not stages[-1]:
            return _judge_once(classifier, judged, results)
    return replace(join_results(results), fixed_schedule=True)


def _fit_parts(
    classifier: Classifier, whole: PixelSource, judged: Source | None, plan: FitPlan, side: int
) -> Trainer:
    """Return a fit of the classifier's weights on parts `side` pixels wide.

    Only complete crops are scored on held-out samples: scoring costs as much as an epoch on parts.
    """
    if side == classifier.image_size:
        return Trainer(classifier.training, whole, judged, plan)
    # A separate graph, since a graph with variable shapes would be slower.
    small = build_classifier(classifier.name, side, "none", plan.seed, map_head=True).training
    # Weights do not depend on the side, since the network is convolutional throughout.
    small.set_weights(classifier.training.get_weights())
    return Trainer(small, PartSource(whole, side), None, plan)


def _judge_once(
    classifier: Classifier, judged: Source | None, results: dict[str, FitResult]
) -> FitResult:
    """Score the last weights of a fit that was interrupted before the stage of complete crops."""
    joined = replace(join_results(results), stopped="interrupted")
    if judged is None:
        return joined
    logits = score_source(classifier.training, judged)
    # One row per epoch, though only the last weights can be scored.
    return replace(joined, held_out=np.tile(logits, (len(joined.history), 1)))
