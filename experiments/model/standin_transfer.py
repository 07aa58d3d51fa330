"""Measure how well stand-in weights (for ImageNet weights) transfer to finding fractures.

`tools/pretrain.py` calls this module. A head is trained on the embeddings of the frozen stand-in
backbone, and the same head on those of a backbone with random weights, both on the same patients.
Both are scored once, after the last epoch, on unseen patients. The stand-in backbone is then
fine-tuned and scored as well. For comparison, the CNN is trained from scratch on these patients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cspine.data.crop_cache import load_samples
from cspine.data.samples import Samples
from cspine.data.sources import resolve_data
from cspine.decide.calibration import sigmoid
from cspine.evaluate.metrics import VISIBLE_MM, paired_bootstrap_difference
from cspine.model.networks.classifier import build_classifier
from cspine.phantom.config import PhantomConfig
from cspine.stats.ranking import compute_auroc
from cspine.train.fitting.augment import augment
from cspine.train.fitting.from_scratch import fit_scratch
from cspine.train.fitting.trainer import FitPlan, TimeBudget
from cspine.train.fitting.transfer import TransferPlan, fit_transfer

# A seed that no other set uses, not even that of the pretext task (tools/pretext.py).
PHANTOM_SEED = 900_002
UNSEEN_SHARE = 0.4
# Copies per slice whose features are cached; the first is not augmented. Each further copy would
# take minutes of a run that has 25.
COPIES = 1
HEAD = FitPlan(epochs=30, batch_size=32, learning_rate=1e-3, seed=0, patience=None)
TUNE = replace(HEAD, epochs=4, learning_rate=1e-4, warmup=0.1)
NO_TUNING = replace(TUNE, epochs=0)
CNN = replace(HEAD, epochs=400, learning_rate=3e-3)


@dataclass(frozen=True)
class Sides:
    """Samples of the training patients, with twins, and of the unseen patients.

    A twin is the same slice without its fracture.
    """

    train: Samples
    unseen: Samples

    def describe(self) -> dict[str, int]:
        """Return the numbers of patients, slices and wide fractures."""
        return {
            "train_patients": len(np.unique(self.train.groups)),
            "unseen_patients": len(np.unique(self.unseen.groups)),
            "unseen_slices": len(self.unseen),
            "unseen_fractures_at_least_1_mm": int((self.unseen.widths_mm >= VISIBLE_MM).sum()),
        }


def load_sides(patients: int, size: int, folder: Path) -> Sides:
    """Return vertebra crops of `size` × `size` pixels of a phantom set used only here."""
    config = PhantomConfig(patients=patients, seed=PHANTOM_SEED)
    dataset, _ = resolve_data("phantom", folder, config)
    cache = folder / "cache"
    everything = load_samples(dataset, dataset.records, "vertebra", size, cache, with_twins=True)
    names = np.unique(everything.groups)
    unseen = np.isin(everything.groups, names[round(len(names) * (1 - UNSEEN_SHARE)) :])
    # Twins are for training only, because a set of real slices has none.
    return Sides(everything.take(~unseen), everything.take(unseen & ~everything.is_twin))


def compare_weights(name: str, sides: Sides, folder: Path) -> dict[str, Any]:
    """Return the scores of one backbone, whose stand-in weights are in `folder`.

    They are those of both heads, their difference, and those after fine-tuning.
    """
    standin, tuned = _fit(name, sides, folder, folder, TUNE)
    random, _ = _fit(name, sides, "none", folder, NO_TUNING)
    wide = _choose_wide(sides.unseen)
    difference = paired_bootstrap_difference(
        sides.unseen.labels[wide],
        sigmoid(standin[wide]),
        sigmoid(random[wide]),
        sides.unseen.groups[wide],
    )
    return {
        "frozen_head_on_standin": judge_logits(standin, sides.unseen),
        "frozen_head_on_random": judge_logits(random, sides.unseen),
        "standin_minus_random_at_least_1_mm": difference.to_dict(),
        "fine_tuned": judge_logits(tuned, sides.unseen),
    }


def train_cnn(sides: Sides, folder: Path, seconds: float) -> dict[str, float]:
    """Train the CNN from scratch for `seconds` on the same patients, and return its scores."""
    size = sides.train.images.shape[1]
    classifier = build_classifier("cnn", size, seed=0, map_head=sides.train.masks is not None)
    clock, key = TimeBudget(seconds), f"{seconds} {sides.train.key}"
    result = fit_scratch(
        classifier, sides.train, sides.unseen, CNN, augment, clock, folder / "cnn", key
    )
    return judge_logits(result.held_out[-1], sides.unseen)


def judge_logits(logits: np.ndarray, samples: Samples) -> dict[str, float]:
    """Return the AUROC of logits (N,): over all slices, and over the normal slices and the
    fractures at least 1 mm wide."""
    wide = _choose_wide(samples)
    if not samples.labels[wide].any():
        raise SystemExit("No unseen fracture is at least 1 mm wide. Use more patients.")
    return {
        "auroc": round(compute_auroc(samples.labels, logits), 3),
        "auroc_at_least_1_mm": round(compute_auroc(samples.labels[wide], logits[wide]), 3),
    }


def _fit(
    name: str, sides: Sides, weights: Path | str, folder: Path, tune: FitPlan
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (N,) of the unseen slices, after the head's training and after fine-tuning."""
    size = sides.train.images.shape[1]
    keras.utils.clear_session()
    classifier = build_classifier(name, size, weights, seed=0)
    key = f"{classifier.origin} {sides.train.key}"
    plan = TransferPlan(HEAD, tune, COPIES, augment, folder / "cache")
    place = folder / f"{name}-{'random' if weights == 'none' else 'standin'}"
    result = fit_transfer(classifier, sides.train, sides.unseen, plan, TimeBudget(None), place, key)
    return result.logits_at((0, HEAD.epochs)), result.held_out[-1]


def _choose_wide(samples: Samples) -> np.ndarray:
    return (samples.labels == 0) | (samples.widths_mm >= VISIBLE_MM)
