"""Functions that train our model for the comparison with the published recipe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from cspine.decide.threshold import METHODS, choose_threshold
from cspine.evaluate.report.inputs import INPUTS_FILE, SplitScores, load_inputs
from cspine.model.store.registry import resolve_version

ROOT = Path(__file__).parents[2]
RESAMPLES = 1000
# Rule that chose the threshold → bool (N,), True if the slice is called a fracture.
Called = dict[str, np.ndarray]


def call(probabilities: np.ndarray, validation: tuple[np.ndarray, np.ndarray]) -> Called:
    """Return each rule's calls, at its threshold chosen on validation: (probabilities, labels)."""
    return {rule: choose_threshold(*validation, rule).apply(probabilities) for rule in METHODS}


def train_ours(data: Path, out: Path, seed: int, *flags: str) -> None:
    """Train as a user would, with further flags of `train.py`; raise if it fails."""
    command = [sys.executable, "train.py", "--data", str(data), "--seed", str(seed)]
    subprocess.run([*command, "--out", str(out), *flags], cwd=ROOT, check=True)


def read_split(model: Path, name: str) -> SplitScores:
    """Return a model's scores of one of its own splits, read from its training report."""
    inputs = load_inputs(model / "report" / INPUTS_FILE, resolve_version(model).card)
    return next(split for split in inputs.splits if split.name == name).scored()
