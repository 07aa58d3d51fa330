"""Train all four architectures and check that Keras and the serving engine read each `.h5` alike.

    python -m experiments.model.four_architectures [--architectures NAME …] [--sources folder zip]

Each architecture is trained on a synthetic set in the published layout, once from a folder and once
from a ZIP, for one epoch from random weights at a small image size. Each `best.h5` is then loaded
with plain `keras.models.load_model` on TensorFlow and with the serving engine at f32. Both get
slices of the set and noise. Prints JSON with the largest difference of their probabilities; the
exit code is 1 if a difference is above 1e-4. How well a network learns is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.machine import describe_machine
from cspine.decide.calibration import sigmoid
from cspine.imaging.decode import decode_image
from cspine.imaging.preprocess import as_network_input, preprocess
from cspine.model.engine.engine import Engine
from cspine.model.networks.architectures import ARCHITECTURES
from cspine.model.store.registry import resolve_version
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.kaggle_layout import write_kaggle

ROOT = Path(__file__).resolve().parents[2]
BOUND = 1e-4
SLICES = 16


def train(name: str, source: Path, out: Path) -> float:
    """Run `train.py` as a user would; return its seconds.

    Raises:
        RuntimeError: the training failed; the message holds the end of its output.
    """
    out.mkdir()
    # Each run has its own cache, so that it must read its source.
    (out / "settings.toml").write_text('resamples = 100\ncache = "cache"\n', encoding="utf-8")
    size = ARCHITECTURES[name].min_size
    words = f"--architectures {name} --image-size {size} --weights none --epochs 1"
    command = [sys.executable, str(ROOT / "train.py"), "--data", str(source), *words.split()]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--config", "settings.toml"], cwd=out, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{name} on {source.name}: {done.stderr[-2000:]}")
    return round(time.perf_counter() - began, 1)


def compare_readers(models: Path, size: int, tree: Path) -> float:
    """Return the largest difference between the probabilities of plain Keras and of the engine."""
    import keras

    files = resolve_version(models)
    greys = [decode_image(path.read_bytes()).grey for path in sorted(tree.rglob("*.png"))[:SLICES]]
    crops = [crop.image for grey in greys if (crop := preprocess(grey, "slice", size))]
    noise = np.random.default_rng(0).integers(0, 256, (SLICES, size, size), np.uint8)
    images = as_network_input(np.concatenate([crops, noise]))  # (32, S, S, 3)
    keras.utils.clear_session()
    plain = keras.models.load_model(files.h5, compile=False)(images.astype(np.float32))
    served = sigmoid(Engine.load(files, "f32").infer(images).logit)
    return float(np.abs(np.asarray(plain)[:, 0] - served).max())


def run(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train every architecture on every source; return seconds and differences."""
    # From 40 patients on, the set is split in three. With fewer, a run would cross-validate, with
    # 16 fits.
    tree = write_kaggle(folder / "tree", PhantomConfig(patients=40, slices_per_patient=2))
    sources = {"folder": tree, "zip": Path(shutil.make_archive(str(tree), "zip", tree))}
    found = {}
    for name in given.architectures:
        for kind in given.sources:
            print(name, kind, file=sys.stderr)
            out = folder / f"{name}-{kind}"
            seconds = train(name, sources[kind], out)
            size = ARCHITECTURES[name].min_size
            difference = compare_readers(out / "models", size, tree)
            found[f"{name} {kind}"] = {
                "image_size": size,
                "train_s": seconds,
                "largest_difference": difference,
            }
            shutil.rmtree(out)
    return found


def main() -> int:
    """Run and print; return 1 if a difference is above the bound."""
    names = list(ARCHITECTURES)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", nargs="+", default=names, choices=names)
    parser.add_argument(
        "--sources", nargs="+", default=["folder", "zip"], help="kinds of data source"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(given, Path(folder))
    print(json.dumps({"machine": describe_machine(), "bound": BOUND, "runs": found}, indent=1))
    return int(any(one["largest_difference"] > BOUND for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
