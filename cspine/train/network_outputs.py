"""Outputs of a network on many images, and distances of held-out samples from its training data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cspine.core.progress import progress
from cspine.data.samples import Samples
from cspine.decide.out_of_distribution import fit_distance
from cspine.model.networks.classifier import Classifier
from cspine.train.fitting.batches import as_pixels

BATCH = 64


@dataclass(frozen=True)
class Outputs:
    """Outputs of a network on N images: `logits` (N,) and `embeddings` (N, D), float32."""

    logits: np.ndarray
    embeddings: np.ndarray


def run_network(classifier: Classifier, images: np.ndarray) -> Outputs:
    """Return logits and embeddings of images uint8 (N, S, S), N ≥ 1."""
    starts = progress(range(0, len(images), BATCH), "scoring")
    parts = [
        classifier.serving.predict_on_batch(as_pixels(images[start : start + BATCH]))
        for start in starts
    ]
    logits = np.concatenate([np.asarray(part["logit"])[:, 0] for part in parts])
    return Outputs(logits, np.concatenate([np.asarray(part["embedding"]) for part in parts]))


def measure_distances(classifier: Classifier, train: Samples, held_out: Samples) -> np.ndarray:
    """Return distances float64 (M,) of `held_out` from the network's training data.

    They are relative to the network's own spread, so distances of several networks are comparable.

    Raises:
        DataError: fewer than 2 training slices without twins, or embeddings that are not finite.
    """
    # Without twins (slices without their fractures), as for the published model's distances.
    known = run_network(classifier, train.images[~train.is_twin]).embeddings
    return fit_distance(known).score(run_network(classifier, held_out.images).embeddings)
