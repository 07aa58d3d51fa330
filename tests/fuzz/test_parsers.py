"""A reduced `benchmarks/fuzz_parsers.py`: spoilt inputs are read, or refused in words."""

import random
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))
from benchmarks.fuzz_parsers import list_targets  # noqa: E402

NAMES = ("URL", "redirect", "request JSON", "base64", "V2 JSON", "V2 binary", "model card", "TOML",
         "model file")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_spoilt_inputs_are_read_or_refused(name, tmp_path):
    shutil.copy(ROOT / "models" / "best.h5", tmp_path)
    targets = {target.name: target for target in list_targets(tmp_path, ROOT / "models")}
    assert set(targets) == set(NAMES)
    target, chance = targets[name], random.Random(0)
    wrong = [target.try_one(target.draw(chance)) for _ in range(150)]
    assert not any(wrong), [one for one in wrong if one][:3]
