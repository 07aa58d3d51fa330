"""Transfer learning in two stages, each on cached activations.

First the head is fitted on the frozen backbone's embeddings, then the tail (the backbone's last
layers, batch norm in inference mode) is tuned at a low rate on the trunk's activations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras

from cspine.data.samples import Samples
from cspine.model.networks.architectures import find_architecture
from cspine.model.networks.classifier import Classifier
from cspine.train.fitting.activation_cache import cache_features
from cspine.train.fitting.batches import Augment
from cspine.train.fitting.result import FitResult, join_results
from cspine.train.fitting.trainer import FitPlan, TimeBudget, Trainer

HEAD_SHARE = 0.5  # the head's share of the time limit, including computing its activations


@dataclass(frozen=True)
class TransferPlan:
    """The plans of both stages; `copies` of each image are cached, all but one by `augment`."""

    head: FitPlan
    tune: FitPlan
    copies: int
    augment: Augment | None
    cache: Path


def fit_transfer(
    classifier: Classifier,
    train: Samples,
    held_out: Samples | None,
    plan: TransferPlan,
    clock: TimeBudget,
    folder: Path,
    key: str = "",
) -> FitResult:
    """Fit the head, then the tail; keep the tuned weights only if they are better on `held_out`.

    Args:
        classifier: holds the best weights afterwards.
        train: the samples to fit.
        held_out: the samples that choose the best epoch, or None.
        plan: both stages' plans.
        clock: the time limit of both stages together.
        folder: the folder of the checkpoints.
        key: identifies settings and data in the checkpoints.

    Returns:
        The result of both stages joined.

    Raises:
        KeyboardInterrupt: it came before the end of the first epoch.
    """
    fit_stage = partial(_fit_stage, classifier, train, held_out, plan, folder, key)
    # The head first, since tuning below a random head would spoil the backbone's weights.
    head = fit_stage(None, clock.part(HEAD_SHARE))
    if plan.tune.epochs == 0 or head.stopped == "interrupted":
        return head
    # Kept because tuning on little data may make the network worse.
    before = classifier.model.get_weights()
    try:
        tuned = fit_stage(find_architecture(classifier.name).tail_layer, clock.part(1.0))
    except KeyboardInterrupt:
        # No epoch of tuning was completed, so the head's result is returned.
        classifier.model.set_weights(before)
        return replace(head, stopped="interrupted")
    # On a tie the head's weights win, since `join_results` takes the first of equally good epochs.
    if held_out is not None and tuned.best_value <= head.best_value:
        classifier.model.set_weights(before)
    return join_results({"head": head, "tune": tuned})


def _fit_stage(
    classifier: Classifier,
    train: Samples,
    held_out: Samples | None,
    plan: TransferPlan,
    folder: Path,
    key: str,
    layer: str | None,
    clock: TimeBudget,
) -> FitResult:
    """Fit the part of the network after `layer` (None: after the embedding)."""
    # Batch norms are frozen, since small batches of another kind of image would spoil their
    # statistics.
    trunk, tail = classifier.trunk_and_tail(layer)
    freeze_norms(tail)
    name = f"{classifier.name} {layer}"
    source = cache_features(trunk, train, name, plan.cache, plan.copies, plan.augment)
    judged = None
    if held_out is not None:
        # Folds of the same samples share one file, of which scoring reads the unchanged images.
        # Other held-out samples need no augmented copies.
        whole = train.selected_from
        is_shared = whole is not None and held_out.selected_from is whole
        copies, augment = (plan.copies, plan.augment) if is_shared else (1, None)
        judged = cache_features(trunk, held_out, name, plan.cache, copies, augment)
    stage, stage_plan = ("tune", plan.tune) if layer else ("head", plan.head)
    return Trainer(tail, source, judged, stage_plan).run(clock, folder / f"{stage}.npz", key)


def freeze_norms(network: keras.Model) -> None:
    """Put every batch norm of a network into inference mode, with fixed statistics and scale."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # In Keras a batch norm that is not trainable also uses its moving statistics.
            layer.trainable = False
