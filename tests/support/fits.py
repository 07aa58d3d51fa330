"""A fit of the tiny samples, ready to run, also in a process of its own."""

import hashlib

import pytest
from keras import layers

from cspine.model.networks import backbones
from cspine.model.networks.architectures import ARCHITECTURES, Architecture
from cspine.model.networks.classifier import build_classifier
from cspine.train.fitting.batches import PixelSource
from cspine.train.fitting.trainer import FitPlan, TimeBudget, Trainer

__all__ = ["PLAN", "TimeBudget", "digest_of", "start_fit"]
TINY = Architecture(
    name="tiny",
    image_size=32,
    min_size=8,
    weights_file=None,
    map_layer="one_out",
    tail_layer="one_out",
)
PLAN = FitPlan(epochs=2, batch_size=8, learning_rate=1e-3, seed=3)


def build_tiny(scaled):
    """Two convolutions, each with batch norm; the trunk ends between them."""
    x = layers.Conv2D(8, 3, 2, name="one_conv")(scaled)
    x = layers.ReLU(name="one_out")(layers.BatchNormalization(name="one_bn")(x))
    x = layers.Conv2D(8, 3, 2, name="two_conv")(x)
    return layers.ReLU(name="two_out")(layers.BatchNormalization(name="two_bn")(x))


def add_tiny_architecture(patch: pytest.MonkeyPatch) -> None:
    """Make `tiny` an architecture: a network that is compiled in a tenth of the time."""
    patch.setitem(backbones._BUILDERS, "tiny", (build_tiny,))
    patch.setitem(ARCHITECTURES, "tiny", TINY)


def start_fit(samples, plan=PLAN, name="tiny"):
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_architecture(patch)
        classifier = build_classifier(name, 32, seed=plan.seed, map_head=True)
    source = PixelSource.of(samples, with_masks=True)
    return classifier, Trainer(classifier.training, source, PixelSource.of(samples, False), plan)


def digest_of(classifier) -> str:
    parts = b"".join(array.tobytes() for array in classifier.model.get_weights())
    return hashlib.sha256(parts).hexdigest()
