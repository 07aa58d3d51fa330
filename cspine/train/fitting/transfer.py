"""Transfer learning in two stages, each on activations that were computed once.

First the head learns on the frozen backbone's embeddings, then the tail (the backbone's top, batch
norm in inference mode) is tuned at a low rate on the trunk's activations. It knows no data set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import keras

from cspine.data.samples import Samples
from cspine.model.networks.architectures import find_architecture
from cspine.model.networks.classifier import Classifier
from cspine.train.fitting.activation_cache import cache_features
from cspine.train.fitting.result import FitResult, join_results
from cspine.train.fitting.trainer import FitPlan, TimeBudget, Trainer

# Of the time limit; computing the activations counts as well.
HEAD_SHARE = 0.5


@dataclass(frozen=True)
class TransferPlan:
    """Both stages' plans, and how many augmented copies of each image are cached."""

    head: FitPlan
    tune: FitPlan
    copies: int
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
    """Fit head, then tail; keep tuning's weights only where they are better on `held_out`.

    The result's history and held-out logits are those of both stages in a row.
    """
    # The head first: tuning under a random head would spoil what the backbone knows.
    head = _fit_stage(
        classifier, None, train, held_out, plan, clock.part(HEAD_SHARE), folder / "head.npz", key
    )
    if plan.tune.epochs == 0 or head.stopped == "interrupted":
        return head
    # Tuning may make things worse, as it may where data are few.
    before = classifier.model.get_weights()
    layer = find_architecture(classifier.name).tail_layer
    try:
        tuned = _fit_stage(
            classifier, layer, train, held_out, plan, clock.part(1.0), folder / "tune.npz", key
        )
    except KeyboardInterrupt:
        # No epoch of tuning was judged: what there is, is the head.
        classifier.model.set_weights(before)
        return replace(head, stopped="interrupted")
    # On a tie the head's, as `join_results` names the first of the best.
    if held_out is not None and tuned.best_value <= head.best_value:
        classifier.model.set_weights(before)
    return join_results({"head": head, "tune": tuned})


def _fit_stage(
    classifier: Classifier,
    layer: str | None,
    train: Samples,
    held_out: Samples | None,
    plan: TransferPlan,
    clock: TimeBudget,
    checkpoint: Path,
    key: str,
) -> FitResult:
    """Fit what lies behind `layer` (None: behind the embedding) on cached activations."""
    # Batch norm in inference mode: small batches of another kind of picture would spoil the
    # statistics that the frozen weights were learned with.
    trunk, tail = classifier.trunk_and_tail(layer)
    freeze_norms(tail)
    tuning = layer is not None
    name = f"{classifier.name} {layer}"
    source = cache_features(trunk, train, name, plan.cache, plan.copies)
    judged = None if held_out is None else cache_features(trunk, held_out, name, plan.cache, 1)
    fit = Trainer(tail, source, judged, plan.tune if tuning else plan.head)
    return fit.run(clock, checkpoint, key)


def freeze_norms(network: keras.Model) -> None:
    """Make every batch norm of a network run in inference mode, its statistics and scale fixed."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # In Keras a batch norm that is not trainable also runs in inference mode.
            layer.trainable = False
