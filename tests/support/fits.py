"""A fit of the tiny samples, ready to run, also in a process of its own."""

import hashlib

from cspine.model.networks.classifier import build_classifier
from cspine.train.fitting.batches import PixelSource
from cspine.train.fitting.trainer import FitPlan, TimeBudget, Trainer

__all__ = ["PLAN", "TimeBudget", "digest_of", "start_fit"]
PLAN = FitPlan(epochs=2, batch_size=8, learning_rate=1e-3, seed=3)


def start_fit(samples, plan=PLAN):
    classifier = build_classifier("cnn", 32, seed=plan.seed, map_head=True)
    source = PixelSource.of(samples, with_masks=True)
    return classifier, Trainer(classifier.training, source, PixelSource.of(samples, False), plan)


def digest_of(classifier) -> str:
    parts = b"".join(array.tobytes() for array in classifier.model.get_weights())
    return hashlib.sha256(parts).hexdigest()
