"""Compare the published recipe with ours on real slices, leaving out each series in turn.

Called by `published.py --data`, whose docstring says what DIR holds.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from cspine.decide.threshold import METHODS
from cspine.evaluate.metrics import compute_metrics
from cspine.evaluate.report.inputs import SplitScores
from cspine.phantom.writers.kaggle_layout import make_variants
from experiments.data.our_training import RESAMPLES, Called, call, read_split, train_ours
from experiments.data.published_network import SIDE_PX, claim, fit_rival, read_files
from experiments.model.model_figures import Truth, bootstrap, error_of

FOLDER = "cervical fracture"


def add_copies(source: Path, out: Path, seed: int) -> Path:
    """Write the originals under `source`, each with 20 copies, in the published layout.

    Originals in a folder `val` become the test folder, all others the training folder.
    """
    paths = sorted(source.rglob("*.png"))
    for number, path in enumerate(paths):
        if path.parent.name not in ("fracture", "normal"):
            continue
        side = "val" if path.parent.parent.name == "val" else "train"
        place = out / FOLDER / side / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            copies = make_variants(picture.convert("L"), np.random.default_rng([seed, number]))
        for suffix, copy in copies.items():
            small = copy.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
            small.convert("RGB").save(place / f"{path.stem}{suffix}.png", compress_level=1)
    return out


def run_real(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both on a folder of real slices, each series left out in turn."""
    tree = add_copies(arguments.data, folder / "tree", arguments.seed)
    files = read_files(tree)
    claimed = claim(files, seed := arguments.seeds[0], arguments.epochs)
    said = np.full(len(files.labels), np.nan)
    called: Called = {}
    for series in np.unique(files.groups):
        mine = files.groups == series
        rival = fit_rival(files.take(~mine), seed, arguments.epochs)
        said[mine] = rival.predict(files.images[mine])
        for rule, one in call(said, (rival.probabilities, rival.validation.labels)).items():
            called.setdefault(rule, np.zeros(len(said), bool))[mine] = one[mine]
    original = np.char.endswith(files.names, ")")
    truth = _truth(files.labels[original], files.groups[original])
    report: dict[str, Any] = {
        "slices": int(original.sum()),
        "series": len(np.unique(files.groups)),
        "claimed_by_file_split": claimed,
        "rival": _pooled(said[original], {r: c[original] for r, c in called.items()}, truth),
    }
    if not arguments.rival_only:
        model = folder / "models"
        limit = ("--time-limit", arguments.time_limit)
        train_ours(tree, model, seed, "--architectures", "cnn", *limit)
        split = read_split(model, "out-of-fold")
        truth = _truth(split.labels, split.groups)
        report["ours"] = _pooled(split.probabilities, call_left_out(split), truth)
        report["ratio"] = {
            rule: report["ours"]["error"][rule]["value"] / report["rival"]["error"][rule]["value"]
            for rule in METHODS
        }
    return report


def call_left_out(split: SplitScores) -> Called:
    """What each rule calls in each series, at a threshold chosen on the other series' scores."""
    called = {rule: np.zeros(len(split.labels), bool) for rule in METHODS}
    for series in np.unique(split.groups):
        mine = split.groups == series
        others = split.probabilities[~mine], split.labels[~mine]
        for rule, one in call(split.probabilities[mine], others).items():
            called[rule][mine] = one
    return called


def _truth(labels: np.ndarray, groups: np.ndarray) -> Any:
    return SimpleNamespace(labels=labels, groups=groups, widths_mm=np.full(len(labels), np.nan))


def _pooled(probabilities: np.ndarray, called: Called, truth: Truth) -> dict[str, Any]:
    """Pooled figures of slices that were scored by networks which had not seen their series."""
    figures = compute_metrics(truth.labels, probabilities, 0.5, truth.groups, RESAMPLES)
    errors = {
        rule: bootstrap(partial(error_of, one, truth), truth.groups, RESAMPLES).to_dict()
        for rule, one in called.items()
    }
    return {
        "slices": len(truth.labels),
        "accuracy": figures["accuracy"].to_dict(),
        "auroc": figures["auroc"].to_dict(),
        "error": errors,
    }
