"""`train.py` as a user runs it: errors in one line, and a tiny tree from files to a version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cspine.model.artifact import resolve_version

ROOT = Path(__file__).parents[1]


def run_train(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=500,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """40 slices a class in the published layout, each a volume of its own; 224², RGB."""
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:224, :224]
    for number in range(80):
        label = ("normal", "fracture")[number % 2]
        y, x = rng.integers(80, 140, 2)
        image = np.where(np.hypot(rows - 112, columns - 112) < 95, 110, 0)
        image = np.where(np.hypot(rows - y, columns - x) < 30, 220, image)
        if number % 2:
            image[:, x - 4 : x + 4] = 110
        noisy = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
        path = root / "train" / label / f"CSFDV1B{number + 1} (1).png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).convert("RGB").save(path)
    return root


def test_a_bad_value_is_one_line_and_exit_code_2(tmp_path):
    done = run_train("--epochs", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "`epochs` must be from 1 to 10000. Received: 0\n"


def test_help_lists_every_flag(tmp_path):
    done = run_train("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "--time-limit" in done.stdout
    assert "--config FILE.toml" in done.stdout


def test_a_tree_becomes_a_version_and_a_missed_bar_does_not(tree, tmp_path):
    (tmp_path / "c.toml").write_text("resamples = 50\n")
    words = f"--data {tree} --architectures cnn --image-size 32 --epochs 2 --config c.toml"
    done = run_train(*words.split(), "--controls", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Split by patient" in done.stderr
    assert "Audit:" in done.stderr
    files = resolve_version(tmp_path / "models")
    card = json.loads((tmp_path / "models" / "best.json").read_text())
    assert (files.version, card["view"], card["note"]) == (card["version"], "slice", "")
    assert set(card["metrics"]) == {"train", "validation", "test"}
    assert set(card["controls"]) == {"random_labels", "shortcut_auroc"}
    assert set(card["files"]) >= {"best.h5", "best.xml", "best_int8.xml"}
    assert (tmp_path / "models" / "leaderboard.csv").read_text().startswith("architecture,")
    assert (tmp_path / "models" / "report" / "index.html").is_file()

    done = run_train(*words.split(), "--out", "other", "--require", "auroc=1.01", cwd=tmp_path)
    assert done.returncode == 1
    assert "`auroc` on test must be at least 1.01" in done.stderr
    assert not (tmp_path / "other" / "best.json").exists()
