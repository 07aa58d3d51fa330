"""The JAX backend: two (virtual) devices share each batch and give what one device gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.published_tree import write_tree

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    find_spec("jax") is None, reason="jax is not installed (`pipenv install --categories jax`)"
)

FIT = """
import json, sys
import numpy as np
from tests.support.train_samples import draw_samples
from cspine.train.fitting.trainer import TimeBudget
from cspine.train.run import spread_over_devices
from tests.support.fits import start_fit
count = int(sys.argv[1])
spread_over_devices(count if count > 1 else None)
classifier, fit = start_fit(draw_samples())
result = fit.run(TimeBudget(None))
weight = classifier.model.trainable_variables[0].value
print(json.dumps({
    "devices": len(weight.sharding.device_set),
    "losses": [entry["loss"] for entry in result.history],
    "logits": result.held_out.ravel().tolist(),
}))
"""


def run_on_jax(*arguments, cwd=ROOT):
    # Compiling is most of the time here, so it is done without optimising.
    xla = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    flags = {"KERAS_BACKEND": "jax", "XLA_FLAGS": xla}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
    )


def test_two_devices_give_the_loss_of_one():
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda count: run_on_jax("-c", FIT, count), ("1", "2")))
    assert not any(run.returncode for run in runs), runs[-1].stderr[-3000:]
    one, two = (json.loads(run.stdout.splitlines()[-1]) for run in runs)
    assert (one["devices"], two["devices"]) == (1, 2)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert two["logits"] == pytest.approx(one["logits"], abs=1e-3)


def test_train_py_publishes_what_two_devices_trained(tmp_path):
    write_tree(tmp_path / "tree")
    (tmp_path / "c.toml").write_text("resamples = 20\n")
    words = "--data tree --architectures cnn --image-size 32 --epochs 1 --devices 2"
    done = run_on_jax(str(ROOT / "train.py"), *words.split(), "--config", "c.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    card = json.loads((tmp_path / "models" / "best.json").read_text())
    assert card["training"]["config"]["devices"] == 2
    assert "jax" in card["libraries"]
