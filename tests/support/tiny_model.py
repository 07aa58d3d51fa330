"""Builds a tiny, untrained, real model folder.

`python tiny_model.py FOLDER NAME SIZE VIEW SEED DOMAIN`

Run in a process of its own on the OpenVINO backend, so that no test process imports TensorFlow.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

NOTE = "A model of the tests, never trained."


def build_tiny_model(
    folder: Path, name="cnn", size=64, view="slice", seed=0, domain="real"
) -> Path:
    """Publish a model into `folder`, from a child process; returns the folder."""
    command = [sys.executable, __file__, str(folder), name, str(size), view, str(seed), domain]
    root = Path(__file__).parents[2]
    environment = os.environ | {"KERAS_BACKEND": "openvino", "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def draw_neck(size: int = 256, seed: int = 0) -> np.ndarray:
    """A disc of soft tissue with bright bone and a dark canal: enough for the image checks."""
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    picture = np.where(np.hypot(rows, columns) < 0.8, 150.0, 4.0)
    picture[np.hypot(rows + 0.1, columns * 1.2) < 0.22] = 230
    picture[np.hypot(rows - 0.18, columns) < 0.1] = 130
    picture += np.random.default_rng(seed).normal(0, 4, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def as_png(grey: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def make_policy(width: int):
    from cspine.decide.calibration import Calibration
    from cspine.decide.conformal import Conformal
    from cspine.decide.out_of_distribution import InDistribution
    from cspine.decide.policy import DecisionPolicy
    from cspine.decide.threshold import Threshold

    centres, gains = np.zeros((1, width), np.float32), np.ones(width, np.float32)
    gate = InDistribution(centres, 1e12, 0.995, gains)
    threshold = Threshold(0.5, "youden", None)
    return DecisionPolicy(Calibration("platt", 1.0, 0.0), threshold, Conformal(0.1, 0.5, 0.5), gate)


def main(folder: Path, name: str, size: int, view: str, seed: int, domain: str) -> None:
    from benchmarks.random_models import publish
    from cspine.model.networks.classifier import build_classifier

    staging = folder.with_name(folder.name + "-staging")
    folder.mkdir(exist_ok=True)
    classifier = build_classifier(name, size, weights="none", seed=seed, map_head=True)
    policy = make_policy(int(classifier.serving.output["embedding"].shape[-1]))
    publish(folder, staging, classifier, policy, view, domain, NOTE)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]), sys.argv[6]
    )
