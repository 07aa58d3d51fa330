"""Pre-train stand-ins for ImageNet weights on phantoms, without any fracture label.

    python -m tools.pretrain build/standin > tools/results/pretrain.json

Each backbone learns the tasks of `pretext.py`, on phantom patients that no other set uses: above
all whether and where a dark line was drawn across bone. The weights are written to the folder under
Keras's own file names, so that `python train.py --weights FOLDER` can read them.

Prints JSON: scores on held-out patients beside those of chance, and how well the weights transfer
to finding fractures (`experiments/model/standin_transfer.py`). With the defaults it takes about an
hour on two cores. A run that was interrupted continues when it is started again; the finished parts
are in FOLDER/progress.json.
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
# oneDNN is a quarter faster on CPUs without AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from benchmarks.machine import describe_machine
from cspine.core.atomic_write import written_whole
from cspine.phantom.config import LEVELS
from cspine.stats.ranking import compute_auroc
from cspine.train.fitting.trainer import FitPlan, rate_at, weighted_map_loss
from experiments.progress import Progress
from tools.pretext import CROP, WINDOW, Crops, batches, draw_batch, render_crops

BACKBONES = ("resnet50v2", "inceptionv3", "xception")
SELECTION = ("out", "architectures")  # arguments that may differ when a run is continued
HELD_OUT = 0.15
JUDGED = 400  # windows on which a backbone is scored
# With Keras's default of 0.99, batch norm's moving averages would still be half at their initial
# values after 70 steps.
NORM_MOMENTUM = 0.95
PLAN = FitPlan(epochs=1, batch_size=32, learning_rate=1e-3, seed=0, warmup=0.05)
# Inceptionv3 needs half as much time per image as the others, and learns half as much from it.
STEPS_FACTOR = {"inceptionv3": 2}
# Cells with a cut are rare, so they get a higher weight.
CUT_WEIGHT = 10.0
# A window of half a crop's side shows little of level and side. Their weights are low so that the
# cuts dominate the loss.
WEIGHTS = {"logit": 1.0, "fracture_map": 2.0, "level": 0.2, "side": 0.2, "noise": 1.0}


def build_network(name: str) -> tuple[Any, Any]:
    """Return a classifier's backbone, and the network that learns all five tasks.

    The network has the classifier's two heads and three more.
    """
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
    """Return the scores of each task on `crops`.

    They are the AUROC of cuts by window and by cell, two accuracies, and the mean absolute error of
    the noise as a share of its range.
    """
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
        # The schedule follows the steps or the time, whichever ends first.
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
    """Run the parts that are not finished yet, and return the report."""
    from experiments.model.standin_transfer import compare_weights, load_sides, train_cnn

    given.out.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(given).items() if name not in SELECTION}
    kept = Progress(given.out / "progress.json", settings)
    report: dict[str, Any] = {"machine": describe_machine(), "settings": settings}
    crops = render_crops(given.patients)
    levels = np.bincount(crops.levels)
    chance = round(float(levels.max() / levels.sum()), 3)
    # Chance for noise: always answering the middle of a uniform distribution has a mean error of a
    # quarter of its range.
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
    add = parser.add_argument
    add("--patients", type=int, default=150, help="patients of the pretext task")
    add("--transfer-patients", type=int, default=150, help="patients of the transfer to fractures")
    add("--steps", type=int, default=600, help="most steps per backbone (inceptionv3: twice that)")
    add("--minutes", type=float, default=25.0, help="most minutes per backbone")
    add("--cnn-minutes", type=float, default=4.0, help="training time of the CNN")
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
