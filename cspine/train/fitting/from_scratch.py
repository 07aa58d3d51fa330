"""Training from scratch in stages: small parts of the crops first, whole crops last.

A fracture is small and the network is convolutional, so most can be learned on parts of a crop, at
a fraction of the cost: a part that holds the fracture, the same part of its twin, and parts of
other slices at places where fractures occur. The last epochs use whole crops, as serving does.
Without masks the label of a part is unknown, and there is one stage.
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
    """A stage on parts of `sixths` / 6 of the crop's side, for `share` of the work and the time.

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
    masks, and the samples of a unit are cut at the same place.
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
        # Parts are never scored; this serves a caller without a generator.
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
        if not self.whole.augmented:
            return as_pixels(images), parts
        # No shift: the place of the part is drawn already.
        changed, moved = augment(images, parts, units, rng, max_shift=0)
        return as_pixels(changed), moved


def choose_corners(
    masks: np.ndarray, units: np.ndarray, cells: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw the parts of a batch.

    A part of a fractured slice holds a random cell of its mask, away from the part's rim if there
    is room. Other parts hold a cell of another mask of the batch, or of the whole grid if all are
    empty, so that the place does not give the label away. Samples of one unit get the same part.

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
    # Fractures before their twins, which get the same part.
    for index in np.argsort(~masks.any(axis=(1, 2)), kind="stable"):
        if int(units[index]) in corners:
            continue
        own = np.argwhere(masks[index])
        seen = rng.choice(own if len(own) else places)
        # From 1 and not 0: at the rim the network sees padding.
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
    augmented: bool,
    clock: TimeBudget,
    folder: Path,
    key: str,
    stages: Sequence[Stage] = STAGES,
) -> FitResult:
    """Fit a whole network from pixels.

    Without masks, or with fewer epochs than `stages`, there is one stage of whole crops.

    Args:
        classifier: holds the best weights afterwards.
        train: the samples to fit.
        held_out: the samples that choose the best epoch, or None.
        plan: its epochs are of whole crops; a stage of smaller parts has more of them.
        augmented: whether training samples are augmented.
        clock: the time limit of all stages together.
        folder: the folder of the checkpoints.
        key: identifies settings and data in the checkpoints.
        stages: the parts' sizes in order; the last are whole crops.

    Returns:
        The result of all stages joined.

    Raises:
        KeyboardInterrupt: it came before the end of the first epoch.
    """
    whole = PixelSource.of(train, classifier.map_head, augmented)
    judged = None if held_out is None else PixelSource.of(held_out, False)
    if not classifier.map_head or plan.epochs < len(stages):
        return Trainer(classifier.training, whole, judged, plan).run(clock, folder / "fit.npz", key)
    results: dict[str, FitResult] = {}
    left = 1.0
    for stage in stages:
        side = part_side(classifier.image_size, stage.sixths)
        # As many parts as cost the same as one crop.
        area = (classifier.image_size / side) ** 2
        part_plan = replace(
            plan,
            epochs=max(1, round(stage.share * plan.epochs * area)),
            learning_rate=stage.first * plan.learning_rate,
            final_rate=stage.last / stage.first,
            # A later stage continues at the last one's rate; its short rise is for the optimizer's
            # new moments.
            warmup=plan.warmup if stage is stages[0] else 0.01,
        )
        fit = _fit_parts(classifier, whole, judged, part_plan, side)
        name = f"{side} pixels"
        try:
            results[name] = fit.run(clock.part(stage.share / left), folder / f"{side}px.npz", key)
        except KeyboardInterrupt:
            if not results:
                raise
            # The weights before this stage.
            classifier.training.set_weights(fit.best)
            return _judge_once(classifier, judged, results)
        left -= stage.share
        # Parts have a graph with variables of its own.
        classifier.training.set_weights(fit.network.get_weights())
        if results[name].stopped == "interrupted" and stage is not stages[-1]:
            return _judge_once(classifier, judged, results)
    return replace(join_results(results), fixed_schedule=True)


def _fit_parts(
    classifier: Classifier, whole: PixelSource, judged: Source | None, plan: FitPlan, side: int
) -> Trainer:
    """Return a fit of the classifier's weights on parts `side` pixels wide.

    Only whole crops are scored on held-out samples, which would cost as much as an epoch on parts.
    """
    if side == classifier.image_size:
        return Trainer(classifier.training, whole, judged, plan)
    # A graph of its own, since one with variable shapes would be slower.
    small = build_classifier(classifier.name, side, "none", plan.seed, map_head=True).training
    # Weights do not depend on the side, since the network is convolutional throughout.
    small.set_weights(classifier.training.get_weights())
    return Trainer(small, PartSource(whole, side), None, plan)


def _judge_once(
    classifier: Classifier, judged: Source | None, results: dict[str, FitResult]
) -> FitResult:
    """Return the result of a fit interrupted before the whole crops, its last weights scored."""
    joined = replace(join_results(results), stopped="interrupted")
    if judged is None:
        return joined
    logits = score_source(classifier.training, judged)
    # One row an epoch, though only the last weights can be scored.
    return replace(joined, held_out=np.tile(logits, (len(joined.history), 1)))
