"""All hostile model files together: there are enough, and none costs memory to refuse."""

import resource

import h5py
import pytest
from test_hostile_models import CHANGES, WEIGHTS, victim

from cspine.core.errors import ArtifactError
from cspine.model.artifact import read_h5

__all__ = ["victim"]
MAX_KIB = 2**20  # 1 GiB


def test_there_are_enough():
    assert len(CHANGES) + len(WEIGHTS) >= 30


def test_none_takes_a_gigabyte(victim):
    content = victim.read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for change in CHANGES:
        victim.write_bytes(content)
        with h5py.File(victim, "a", libver="latest") as file:
            change(file, victim.parent)
        with pytest.raises(ArtifactError):
            read_h5(victim)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_KIB
