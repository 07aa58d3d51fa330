"""`train.py` as a user runs it: errors in one line, and a tiny tree from files to a version."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest

from cspine.model.engine.engine import Engine
from cspine.model.store.registry import resolve_version
from support.published_tree import write_tree
from support.waiting import wait_for

ROOT = Path(__file__).parents[1]


def run_train(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("tree"))


def test_a_bad_value_is_one_line_and_exit_code_2(tmp_path):
    done = run_train("--epochs", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "`epochs` must be a whole number from 1 to 10000. Received: '0'\n"


def test_a_folder_that_is_not_there_is_one_line_and_exit_code_2(tmp_path):
    done = run_train("--data", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("`data` must be a folder, a ZIP or a CSV file. Received: nowhere")
    assert done.stderr.count("\n") == 1


def test_a_phantom_set_without_marks_is_one_line_and_exit_code_2(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "set")
    (tmp_path / "set" / "phantom.json").write_text("{}")
    done = run_train("--data", "set", "--architectures", "cnn", cwd=tmp_path)
    assert done.returncode == 2
    error = done.stderr.splitlines()[-1]
    assert error.startswith("The images of a phantom set must have the mark of a synthetic image.")
    assert error.endswith("write the phantom set again with `python -m cspine phantom DIR`")


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
    assert set(card["files"]) >= {"best.h5", "best.xml", "best_int8.xml", "best_seen.txt"}
    assert (tmp_path / "models" / "leaderboard.csv").read_text().startswith("architecture,")
    assert (tmp_path / "models" / "report" / "index.html").is_file()
    check_readers(files)

    # The same files from a ZIP, found in the same cache. A missed bar leaves all that is served.
    page = (tmp_path / "models" / "report" / "index.html").read_bytes()
    archive = shutil.make_archive(str(tmp_path / "tree"), "zip", tree)
    words = words.replace(str(tree), archive)
    done = run_train(*words.split(), "--require", "auroc=1.01", cwd=tmp_path)
    assert done.returncode == 1
    assert "`auroc` on test must be at least 1.01" in done.stderr
    assert json.loads((tmp_path / "models" / "best.json").read_text()) == card
    assert (tmp_path / "models" / "report" / "index.html").read_bytes() == page
    staging = tmp_path / "models" / "run" / "staging"
    assert (staging / "report" / "index.html").is_file()
    again = json.loads((staging / "best.json").read_text())
    assert again["data"]["manifest_sha256"] == card["data"]["manifest_sha256"]
    assert again["version"] == card["version"]


def check_readers(files):
    """Plain Keras and the serving engine give the same probabilities."""
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    plain = keras.models.load_model(files.h5, compile=False)(images.astype(np.float32))
    logits = Engine.load(files, "f32").infer(images).logit
    served = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(served, np.asarray(plain)[:, 0], atol=1e-4)


@contextmanager
def running_train(words, cwd):
    """`train.py` as a process, its lines in `log`, and with Ctrl-C not ignored."""
    log = cwd / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *words],
            cwd=cwd,
            stderr=file,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()


def wait_until(process, holds):
    """Return once `holds()`; fail where the process has ended before."""

    def holds_of_running() -> bool:
        held = holds()
        assert held or process.poll() is None
        return held

    wait_for(holds_of_running, 600)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as a POSIX signal")
def test_a_killed_run_goes_on_and_ctrl_c_keeps_the_best(tree, tmp_path):
    (tmp_path / "c.toml").write_text("resamples = 20\npatience = 900\n")
    words = f"--data {tree} --architectures cnn --image-size 32 --epochs 900 --config c.toml"
    checkpoint = tmp_path / "models" / "run" / "cnn" / "fit.npz"
    with running_train(words.split(), tmp_path) as (process, _):
        wait_until(process, checkpoint.is_file)
        # SIGKILL on POSIX: nothing can be tidied up.
        process.kill()
        assert process.wait() == -signal.SIGKILL
    kept = json.loads(str(np.load(checkpoint)["head"]))["history"]

    with running_train([*words.split(), "--resume"], tmp_path) as (process, log):
        begun = f"epoch {len(kept) + 1}, loss"
        wait_until(process, lambda: begun in log.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0, log.read_text()[-3000:]
    told = log.read_text()
    assert f"continuing after epoch {len(kept)}" in told
    assert "epoch 1, loss" not in told
    card = json.loads((tmp_path / "models" / "best.json").read_text())
    assert card["training"]["stopped"] == "interrupted" and card["interrupted"]
    assert resolve_version(tmp_path / "models").version == card["version"]
