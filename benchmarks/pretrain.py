"""A stand-in for ImageNet weights: backbones that have seen necks, and never a fracture's label.

    python benchmarks/pretrain.py build/standin > benchmarks/results/pretrain.json

Each backbone learns three things of vertebra crops of phantom patients that no other set holds:
the level (C1–C7), the side of the picture on which the front of the neck lies (the crop is turned
by quarters), and how much noise was added. Written under Keras's own file names into a folder for
`python train.py --weights FOLDER`. Prints JSON: figures on patients held out, beside chance, and
what `standin_transfer.py` finds of transfer to fractures. The defaults are meant for 25 minutes on
two cores. A run that was cut off goes on where it is started again: what is done stands in
FOLDER/progress.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A quarter faster on CPUs without AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe_machine
from cspine.imaging.channels import as_network_input

BACKBONES = ("resnet50v2", "inceptionv3", "xception")
LEVELS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7")
SELECTION = ("out", "architectures")  # of the command line; the rest must not change in a run
PATIENTS_SEED = 900_001  # far from the seeds of every other set
MAX_NOISE = 40.0  # grey values
HELD_OUT = 0.15
# Keras's 0.99 would leave the statistics of new networks half unlearned after 70 steps.
NORM_MOMENTUM = 0.9


@dataclass(frozen=True)
class Crops:
    """Vertebra crops uint8 (N, S, S), their levels 0…6, and their patients' numbers."""

    images: np.ndarray
    levels: np.ndarray
    patients: np.ndarray

    def of(self, chosen: np.ndarray) -> Crops:
        """The crops that a bool (N,) picks."""
        return Crops(self.images[chosen], self.levels[chosen], self.patients[chosen])


def render_crops(patients: int, size: int) -> Crops:
    """Crops of `patients` unbroken phantom patients; slices with no vertebra found are left out."""
    from cspine.imaging.preprocess import preprocess
    from cspine.phantom.config import PhantomConfig
    from cspine.phantom.render import render_patient

    config = PhantomConfig(patients=patients, seed=PATIENTS_SEED)
    rows = []
    for number in range(patients):
        for item in render_patient(number, config):
            # A fractured slice's twin, so that no fracture is ever seen.
            grey = item.grey if item.twin_grey is None else item.twin_grey
            crop = preprocess(grey, "vertebra", size)
            if crop is not None:
                rows.append((crop.image, LEVELS.index(item.truth.level), number))
    images, levels, numbers = zip(*rows, strict=True)
    return Crops(np.stack(images), np.asarray(levels), np.asarray(numbers))


def draw_batch(crops: Crops, size: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Pixels (B, S, S, 3) turned and made noisy, and what was done to them."""
    chosen = rng.integers(len(crops.images), size=size)
    sides, noise = rng.integers(4, size=size), rng.uniform(0, 1, size)
    turned = [np.rot90(crops.images[i], k) for i, k in zip(chosen, sides, strict=True)]
    grey = np.stack(turned).astype(np.float32)
    grey += rng.normal(size=grey.shape) * (MAX_NOISE * noise)[:, None, None]
    pixels = as_network_input(np.clip(grey, 0, 255).astype(np.float32))
    return pixels, {"level": crops.levels[chosen], "side": sides, "noise": noise[:, None]}


def batches(crops: Crops, size: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Batches without end, the same for the same seed."""
    rng = np.random.default_rng(seed)
    while True:
        yield draw_batch(crops, size, rng)


def build_network(name: str, size: int) -> tuple[Any, Any]:
    """The backbone, and a network that puts the three tasks' heads on its pooled features."""
    import keras

    from cspine.model.backbones import build_backbone

    keras.utils.set_random_seed(0)
    backbone = build_backbone(name, size)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = NORM_MOMENTUM
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    heads = {
        "level": keras.layers.Dense(len(LEVELS), name="level")(pooled),
        "side": keras.layers.Dense(4, name="side")(pooled),
        "noise": keras.layers.Dense(1, name="noise")(pooled),
    }
    network = keras.Model(backbone.input, heads)
    classify = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(
        optimizer=keras.optimizers.AdamW(1e-3, weight_decay=1e-4, clipnorm=1.0),
        loss={"level": classify, "side": classify, "noise": keras.losses.MeanSquaredError()},
        jit_compile=False,
    )
    return backbone, network


def judge(network: Any, crops: Crops) -> dict[str, float]:
    """Accuracy of level and side and mean error of noise (share of its range), held out."""
    pixels, truth = draw_batch(crops, 256, np.random.default_rng(7))
    said = {name: np.asarray(value) for name, value in network.predict(pixels, verbose=0).items()}
    return {
        "level_accuracy": float((said["level"].argmax(1) == truth["level"]).mean()),
        "side_accuracy": float((said["side"].argmax(1) == truth["side"]).mean()),
        "noise_error": float(np.abs(said["noise"] - truth["noise"]).mean()),
    }


def pretrain(name: str, crops: Crops, given: argparse.Namespace) -> dict[str, Any]:
    """Train one backbone until its time or steps are over, save it, and return its figures."""
    from cspine.model.architectures import ARCHITECTURES

    held_out = crops.patients >= crops.patients.max() * (1 - HELD_OUT)
    backbone, network = build_network(name, given.image_size)
    source = batches(crops.of(~held_out), given.batch_size, seed=1)
    began, steps, done, loss = time.perf_counter(), 0, 0.0, float("nan")
    while done < 1.0:
        # A cosine to 0, by steps or by time, whichever ends first.
        network.optimizer.learning_rate = 1e-3 * 0.5 * (1 + np.cos(np.pi * done))
        loss = float(np.asarray(network.train_on_batch(*next(source))).ravel()[0])
        steps += 1
        done = max(steps / given.steps, (time.perf_counter() - began) / (60 * given.minutes))
    file = str(ARCHITECTURES[name].weights_file)
    part = given.out / f".{name}.part.h5"
    backbone.save(part, include_optimizer=False)
    part.replace(given.out / file)
    seconds = round(time.perf_counter() - began, 1)
    figures = {key: round(value, 3) for key, value in judge(network, crops.of(held_out)).items()}
    return {
        "file": file,
        "steps": steps,
        "seconds": seconds,
        "last_loss": round(loss, 3),
        **figures,
    }


class Progress:
    """What is done of a run, kept in a file, for another run of the same settings."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.done = path, {"settings": settings}
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            self.done = found if found["settings"] == settings else self.done

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, which runs unless it did before."""
        if name not in self.done:
            import keras

            print(name, file=sys.stderr)
            keras.utils.clear_session()
            began = time.perf_counter()
            result = work()
            self.done[name] = {**result, "wall_s": round(time.perf_counter() - began, 1)}
            part = self.path.with_name(f".{self.path.name}.part")
            part.write_text(json.dumps(self.done, indent=1), encoding="utf-8")
            part.replace(self.path)
        return self.done[name]


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Pre-train and transfer what is not done yet; return the report."""
    from benchmarks.standin_transfer import compare_weights, load_sides, train_cnn

    given.out.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(given).items() if name not in SELECTION}
    kept = Progress(given.out / "progress.json", settings)
    report: dict[str, Any] = {"machine": describe_machine(), "settings": settings}
    crops = render_crops(given.patients, given.image_size)
    levels = np.bincount(crops.levels)
    chance = round(float(levels.max() / levels.sum()), 3)
    # Of noise: always answering the middle of an even draw is off by a quarter of its range.
    report["pretext_chance"] = {
        "level_accuracy": chance, "side_accuracy": 0.25, "noise_error": 0.25
    }  # fmt: skip
    for name in given.architectures:
        title = f"pretext {name}"
        report[title] = kept.once(title, partial(pretrain, name, crops, given))
    sides = load_sides(given.transfer_patients, given.image_size, given.out)
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
    parser.add_argument("--patients", type=int, default=120, help="of the pretext")
    parser.add_argument("--transfer-patients", type=int, default=120)
    parser.add_argument("--image-size", type=int, default=96, help="crop, pixels a side")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=600, help="at most, each backbone")
    parser.add_argument("--minutes", type=float, default=3.0, help="at most, each backbone")
    parser.add_argument("--cnn-minutes", type=float, default=2.0)
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
