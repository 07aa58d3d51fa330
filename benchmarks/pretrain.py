"""A stand-in for ImageNet weights: backbones that have seen necks, and never a fracture's label.

Each backbone learns three things of vertebra crops of phantom patients that no other set holds:
the level (C1–C7), the side of the picture on which the front of the neck lies (the crop is turned
by quarters), and how much noise was added. Written under Keras's own file names into a folder for
`python train.py --weights FOLDER`. Prints JSON: figures on patients held out, beside chance. It
says nothing of what the weights are good for; transfer to fractures is the trainer's to measure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BACKBONES = ("resnet50v2", "inceptionv3", "xception")
LEVELS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7")
PATIENTS_SEED = 900_001  # far from the seeds of every other set
MAX_NOISE = 40.0  # grey values
HELD_OUT = 0.15


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
    pixels = np.repeat(np.clip(grey, 0, 255)[..., None], 3, axis=3).astype(np.float32)
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


def pretrain(name: str, crops: Crops, size: int, given: argparse.Namespace) -> dict[str, Any]:
    """Train one backbone until its time or steps are over, save it, and return its figures."""
    from cspine.model.architectures import ARCHITECTURES

    held_out = crops.patients >= crops.patients.max() * (1 - HELD_OUT)
    backbone, network = build_network(name, size)
    source = batches(crops.of(~held_out), given.batch_size, seed=1)
    began, steps, loss = time.perf_counter(), 0, float("nan")
    while steps < given.steps and time.perf_counter() - began < 60 * given.minutes:
        network.optimizer.learning_rate = 1e-3 * 0.5 * (1 + np.cos(np.pi * steps / given.steps))
        loss = float(np.asarray(network.train_on_batch(*next(source))).ravel()[0])
        steps += 1
    file = ARCHITECTURES[name].weights_file
    part = given.out / f".{name}.part.h5"
    backbone.save(part, include_optimizer=False)
    part.replace(given.out / str(file))
    seconds = round(time.perf_counter() - began, 1)
    figures = {key: round(value, 3) for key, value in judge(network, crops.of(held_out)).items()}
    return {
        "file": file,
        "steps": steps,
        "seconds": seconds,
        "last_loss": round(loss, 3),
        **figures,
    }


def main() -> None:
    """Pre-train the backbones asked for into the folder given; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the *_notop.h5 files")
    parser.add_argument("--architectures", nargs="+", default=BACKBONES, choices=BACKBONES)
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--image-size", type=int, default=128, help="crop, pixels a side")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=600, help="at most, each backbone")
    parser.add_argument("--minutes", type=float, default=30.0, help="at most, each backbone")
    given = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # a quarter faster on CPUs without AVX-512
    given.out.mkdir(parents=True, exist_ok=True)
    crops = render_crops(given.patients, given.image_size)
    report: dict[str, Any] = {
        "patients": given.patients,
        "crops": len(crops.images),
        "chance": {
            "level_accuracy": round(float(np.bincount(crops.levels).max() / len(crops.levels)), 3),
            "side_accuracy": 0.25,
            "noise_error": 0.25,
        },
    }
    for name in given.architectures:
        report[name] = pretrain(name, crops, given.image_size, given)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
