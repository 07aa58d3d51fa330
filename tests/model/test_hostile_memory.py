"""All hostile model files together: there are enough, and none costs memory to refuse."""

import h5py
import numpy as np
import pytest

from cspine.core.errors import ArtifactError
from cspine.model.store.weights_file import read_h5
from support.hostile_weights import CHANGES, WEIGHTS
from support.peak_memory import peak_memory

MAX_KIB = 2**20  # 1 GiB


def test_there_are_enough():
    assert len(CHANGES) + len(WEIGHTS) >= 30


def test_none_takes_a_gigabyte(victim):
    content = victim.read_bytes()
    for change in CHANGES:
        victim.write_bytes(content)
        with h5py.File(victim, "a", libver="latest") as file:
            change(file, victim.parent)
        # Of the reading alone: to make a bomb may take more.
        with peak_memory() as peak, pytest.raises(ArtifactError):
            read_h5(victim)
        assert peak.kib < MAX_KIB, change.__name__


def test_a_gigabyte_would_be_seen():
    with peak_memory() as peak:
        np.ones(2**30 + 2**26, np.uint8)
    assert peak.kib > MAX_KIB
