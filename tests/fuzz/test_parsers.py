"""A reduced `tests/fuzz/fuzz_parsers.py`: spoilt inputs are read, or refused in words."""

import random

import pytest

from tests.fuzz.harness import Trial
from tests.fuzz.parser_targets import MODELS, list_targets

NAMES = (
    "URL",
    "redirect",
    "HTTP",
    "request JSON",
    "base64",
    "V2 JSON",
    "V2 binary",
    "model card",
    "TOML",
    "model file",
)
INPUTS = 150


@pytest.mark.parametrize("name", NAMES)
def test_spoilt_inputs_are_read_or_refused(name, tmp_path):
    targets = {target.name: target for target in list_targets(tmp_path, MODELS)}
    assert set(targets) == set(NAMES)
    # One more than are tried: after the last, a trial ends its process.
    trial, chance = Trial(targets[name], INPUTS + 1, "mutator"), random.Random(0)
    for _ in range(INPUTS):
        trial.try_one(targets[name].draw(chance))
    assert trial.count == INPUTS and not trial.failures, trial.failures[:3]
