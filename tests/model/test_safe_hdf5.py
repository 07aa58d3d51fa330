"""Model files made to do harm: each is refused with its reason, and none runs code.

Every file here is a good one, changed in one way. Reading never imports Keras, so what stands in a
file's `model_config` is bytes that nobody looks at.
"""

import json
import struct

import h5py
import numpy as np
import pytest

from cspine.core.errors import ArtifactError
from cspine.model.store.keras_weights import load_classifier
from cspine.model.store.weights_file import read_h5
from support.hostile_weights import CHANGES, WEIGHTS


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_refused_before_anything_is_built(change, victim):
    with h5py.File(victim, "a", libver="latest") as file:
        change(file, victim.parent)
    with pytest.raises(ArtifactError, match=r"must .*[Rr]eceived"):
        read_h5(victim)


@pytest.mark.parametrize("change", WEIGHTS, ids=lambda change: change.__name__)
def test_refused_by_the_network_it_claims_to_be(change, victim):
    with h5py.File(victim, "a") as file:
        change(file, victim.parent)
    with pytest.raises(ArtifactError, match=r"must .*Received"):
        load_classifier(victim)


def test_a_lambda_layer_in_the_config_is_never_looked_at(victim, saved):
    trap = victim.parent / "ran"
    code = {"class_name": "Lambda", "config": {"function": f"open({str(trap)!r}, 'w')"}}
    with h5py.File(victim, "a") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": [code]})
        file.attrs["training_config"] = json.dumps({"loss": "__import__('os').abort"})
    loaded, _ = load_classifier(victim)
    first = saved("cnn").classifier.model.get_weights()[0]
    assert np.array_equal(loaded.model.get_weights()[0], first)
    assert not trap.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04keras zip", b"\x80\x04\x95pickle", b"\x89HDF\r\n\x1a\n", b"{}"],
    ids=["empty", "zip", "pickle", "signature alone", "json"],
)
def test_what_is_no_hdf5_is_named(content, tmp_path):
    (tmp_path / "model.h5").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"must be .*HDF5"):
        read_h5(tmp_path / "model.h5")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_named(share, victim):
    content = victim.read_bytes()
    victim.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArtifactError, match=r"must be an intact HDF5"):
        read_h5(victim)


def test_a_sparse_giant_is_refused_by_its_size(tmp_path):
    with (tmp_path / "model.h5").open("wb") as file:
        file.write(b"\x89HDF\r\n\x1a\n")
        file.truncate(2**40)
    with pytest.raises(ArtifactError, match=r"at most .* bytes"):
        read_h5(tmp_path / "model.h5")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"must exist. Received: model.h5"):
        read_h5(tmp_path / "model.h5")


def test_flipped_bytes_never_crash(victim):
    content = bytearray(victim.read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(content)
        for place in rng.integers(0, 4096, 4):
            broken[place] = rng.integers(256)
        place = int(rng.integers(0, len(content) - 8))
        broken[place : place + 8] = struct.pack("<Q", int(rng.integers(2**63)))
        victim.write_bytes(broken)
        try:
            read_h5(victim)
        except ArtifactError:
            continue
