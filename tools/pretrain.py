"""Pre-train stand-ins for ImageNet weights on phantoms, without any fracture label.

    python -m tools.pretrain build/standin > tools/results/pretrain.json

Each backbone learns what `pretext.py` draws from phantom patients that no other set holds: above
all whether, and where, a dark line was drawn across bone. Written under Keras's own file names into
a folder for `python train.py --weights FOLDER`. Prints JSON: figures on held-out patients, beside
chance, and what `experiments/model/standin_transfer.py` finds of transfer to fractures. The
defaults are meant for an hour on two cores. A run that was cut off goes on where it is started
again: what is done stands in FOLDER/progress.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A quarter faster on CPUs without AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from benchmarks.machine import describe_machine
from cspine.core.atomic_write import written_whole
from cspine.phantom.config import LEVELS
from cspine.stats.ranking import compute_auroc
from cspine.train.fitting.trainer import FitPlan, rate_at, weighted_map_loss
from experiments.progress import Progress
from tools.pretext import CROP, WINDOW, Crops, batches, draw_batch, render_crops

BACKBONES = ("resnet50v2", "inceptionv3", "xception")
SELECTION = ("out", "architectures")  # of the command line; the rest must not change in a run
HELD_OUT = 0.15
JUDGED = 400  # windows
# Keras's 0.99 would leave the statistics of new networks half unlearned after 70 steps.
NORM_MOMENTUM = 0.95
PLAN = FitPlan(epochs=1, batch_size=32, learning_rate=1e-3, seed=0, warmup=0.05)
# An image costs it half of what it costs the others, and it learns half as much from one.
STEPS_FACTOR = {"inceptionv3": 2}
# Cuts are few cells of a window.
CUT_WEIGHT = 10.0
# What a window of half a crop tells of level and side is little: they must not drown the cuts.
WEIGHTS = {"logit": 1.0, "fracture_map": 2.0, "level": 0.2, "side": 0.2, "noise": 1.0}


def build_network(name: str) -> tuple[Any, Any]:
    """A classifier's backbone, and a network of all five tasks: its two heads and three more."""
    import keras

    from cspine.model.networks.classifier import build_classifier

    keras.utils.clear_session()
    classifier = build_classifier(name, WINDOW, map_head=True)
    for layer in classifier.backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = NORM_MOMENTUM
    embedding = classifier.training.get_layer("embedding").output
    sizes = {"level": len(LEVELS), "side": 4, "noise": 1}
    heads = {task: keras.layers.Dense(units, name=task)(embedding) for task, units in sizes.items()}
    network = keras.Model(classifier.training.input, {**classifier.training.output, **heads})
    classify = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(
        optimizer=keras.optimizers.AdamW(PLAN.learning_rate, weight_decay=1e-4, clipnorm=1.0),
        loss={
            "logit": keras.losses.BinaryCrossentropy(from_logits=True),
            "fracture_map": weighted_map_loss(CUT_WEIGHT),
            "level": classify,
            "side": classify,
            "noise": keras.losses.MeanSquaredError(),
        },
        loss_weights=WEIGHTS,
        jit_compile=False,
    )
    return classifier.backbone, network


def judge(network: Any, crops: Crops) -> dict[str, float]:
    """Figures of each task, held out: AUROC of cuts by window and by cell, accuracies, and the
    mean error of noise as a share of its range."""
    pixels, truth = draw_batch(crops, JUDGED, np.random.default_rng(7))
    said = {name: np.asarray(value) for name, value in network.predict(pixels, verbose=0).items()}
    return {
        "cut_auroc": compute_auroc(truth["logit"].ravel(), said["logit"].ravel()),
        "cut_auroc_by_cell": compute_auroc(
            truth["fracture_map"].ravel(), said["fracture_map"].ravel()
        ),
        "level_accuracy": float((said["level"].argmax(1) == truth["level"]).mean()),
        "side_accuracy": float((said["side"].argmax(1) == truth["side"]).mean()),
        "noise_error": float(np.abs(said["noise"] - truth["noise"]).mean()),
    }


def pretrain(name: str, crops: Crops, given: argparse.Namespace) -> dict[str, Any]:
    """Train one backbone until its time or steps are over, save it, and return its figures."""
    from cspine.model.networks.architectures import ARCHITECTURES

    held_out = crops.patients >= crops.patients.max() * (1 - HELD_OUT)
    backbone, network = build_network(name)
    source = batches(crops.of(~held_out), PLAN.batch_size, seed=1)
    most = STEPS_FACTOR.get(name, 1) * given.steps
    began, steps, done, loss = time.perf_counter(), 0, 0.0, float("nan")
    while done < 1.0:
        # By steps or by time, whichever ends first.
        network.optimizer.learning_rate = rate_at(done, PLAN)
        loss = float(np.asarray(network.train_on_batch(*next(source))).ravel()[0])
        steps += 1
        done = max(steps / most, (time.perf_counter() - began) / (60 * given.minutes))
    file = str(ARCHITECTURES[name].weights_file)
    with written_whole(given.out / file) as part:
        backbone.save(part, include_optimizer=False)
    seconds = round(time.perf_counter() - began, 1)
    figures = {key: round(value, 3) for key, value in judge(network, crops.of(held_out)).items()}
    return {
        "file": file,
        "steps": steps,
        "seconds": seconds,
        "last_loss": round(loss, 3),
        **figures,
    }


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Pre-train and transfer what is not done yet; return the report."""
    from experiments.model.standin_transfer import compare_weights, load_sides, train_cnn

    given.out.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(given).items() if name not in SELECTION}
    kept = Progress(given.out / "progress.json", settings)
    report: dict[str, Any] = {"machine": describe_machine(), "settings": settings}
    crops = render_crops(given.patients)
    levels = np.bincount(crops.levels)
    chance = round(float(levels.max() / levels.sum()), 3)
    # Of noise: always answering the middle of an even draw is off by a quarter of its range.
    report["pretext_chance"] = {
        "cut_auroc": 0.5,
        "cut_auroc_by_cell": 0.5,
        "level_accuracy": chance,
        "side_accuracy": 0.25,
        "noise_error": 0.25,
    }
    for name in given.architectures:
        title = f"pretext {name}"
        report[title] = kept.once(title, partial(pretrain, name, crops, given))
    sides = load_sides(given.transfer_patients, CROP, given.out)
    report["transfer_data"] = sides.describe()
    for name in given.architectures:
        title = f"transfer {name}"
        report[title] = kept.once(title, partial(compare_weights, name, sides, given.out))
    seconds = 60 * given.cnn_minutes
    title = "transfer cnn"
    report[title] = kept.once(title, partial(train_cnn, sides, given.out, seconds))
    return report


def main() -> None:
    """Read the command line; print the report as JSON."""
    parser = argparse.ArgumentParser(description="Make and judge stand-ins for ImageNet weights.")
    parser.add_argument("out", type=Path, help="folder for the *_notop.h5 files")
    parser.add_argument("--architectures", nargs="+", default=BACKBONES, choices=BACKBONES)
    parser.add_argument("--patients", type=int, default=150, help="of the pretext")
    parser.add_argument("--transfer-patients", type=int, default=150)
    parser.add_argument("--steps", type=int, default=600, help="at most, of most backbones")
    parser.add_argument("--minutes", type=float, default=25.0, help="at most, each backbone")
    parser.add_argument("--cnn-minutes", type=float, default=4.0)
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
