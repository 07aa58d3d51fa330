"""OpenVINO files made to do harm: none is parsed, or none is compiled, and the `.h5` serves.

Each says of itself what a good one says, the hashes of the `.h5` and of its own `.bin` included:
anybody can write that. Only the card tells whose it is.
"""

import errno
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from cspine.core.errors import ArtifactError
from cspine.model.engine import network_files
from cspine.model.engine.network_files import find_or_build_ir
from cspine.model.export import ir
from cspine.model.export.ir import map_ir, write_ir
from cspine.model.store.hashes import hash_file

SMALL, LARGE = 54_321, 10**8


def list_all(files):
    listed = {path.name: hash_file(path) for path in files.folder.glob("best.*")}
    return replace(files, card={**files.card, "files": listed})


@pytest.fixture
def copied(files, tmp_path):
    """A folder of its own with the good files, all of them listed in the card."""
    shutil.copytree(files.folder, tmp_path / "model")
    folder = tmp_path / "model"
    return list_all(replace(files, folder=folder, h5=folder / "best.h5"))


@pytest.fixture
def parsed(monkeypatch):
    """The texts that OpenVINO was given to parse."""
    texts, read_model = [], ov.Core.read_model

    def watch(core, text, *weights):
        texts.append(text)
        return read_model(core, text, *weights)

    monkeypatch.setattr(ir.ov.Core, "read_model", watch)
    return texts


@pytest.fixture
def rebuilt(files, monkeypatch):
    """Folders in which an IR was made; a copy of the good one stands in for Keras's seconds."""
    folders = []

    def copy_good(_, folder):
        folders.append(folder)
        for name in ("best.bin", "best.xml"):
            (folder / name).write_bytes((files.folder / name).read_bytes())
        return folder / "best.xml"

    monkeypatch.setattr(network_files, "export_ir", copy_good)
    return folders


def pass_through(shape, kind=np.uint8):
    pixels = op.parameter(shape, kind, name="pixels")
    # With a weight, since an empty `.bin` is none.
    outputs = [op.add(op.convert(pixels, "f32"), op.constant(np.float32(1))) for _ in range(3)]
    for output, name in zip(outputs, ("logit", "embedding", "cam"), strict=True):
        output.output(0).tensor.set_names({name})
    return ov.Model(outputs, [pixels])


def folded_range(files):
    """A Range that is folded while it is parsed: 13 s and 1.6 GiB from 5 KB."""
    pixels = op.parameter([1, 64, 64, 3], np.uint8, name="pixels")
    counted = op.range(*(op.constant(np.int64(one)) for one in (0, SMALL, 1)), "i64")
    most = op.reduce_max(counted, op.constant(np.array([0])), keep_dims=True)
    shape = op.add(op.multiply(most, op.constant(np.int64(0))), op.constant(np.int64(64 * 64 * 3)))
    path = files.folder / "best.xml"
    write_ir(ov.Model([op.reshape(pixels, shape, False)], [pixels]), path, files.h5_sha256)
    weights, old = path.with_suffix(".bin"), hash_file(path.with_suffix(".bin"))
    small, large = (np.int64(one).tobytes() for one in (SMALL, LARGE))
    assert small in weights.read_bytes()
    weights.write_bytes(weights.read_bytes().replace(small, large))
    path.write_text(path.read_text().replace(old, hash_file(weights)))


def huge_input(files):
    network = pass_through([1, 12_000, 12_000, 3])
    write_ir(network, files.folder / "best.xml", files.h5_sha256)


def float_input(files):
    network = pass_through([1, 64, 64, 3], np.float32)
    write_ir(network, files.folder / "best.xml", files.h5_sha256)


def changed_text(files):
    path = files.folder / "best.xml"
    path.write_text(path.read_text().replace("<net ", "<net  ", 1))


def changed_weights(files):
    path = files.folder / "best.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")


def sparse_weights(files):
    with (files.folder / "best.bin").open("r+b") as file:
        file.truncate(2**42)


def no_weights(files):
    (files.folder / "best.bin").unlink()


@pytest.mark.parametrize(
    "change",
    [
        folded_range,
        huge_input,
        float_input,
        changed_text,
        changed_weights,
        sparse_weights,
        no_weights,
    ],
    ids=lambda change: change.__name__,
)
def test_what_the_card_does_not_list_is_never_parsed(change, copied, parsed, rebuilt):
    good = (copied.folder / "best.xml").read_bytes()
    change(copied)
    none = replace(copied, card={**copied.card, "files": {}})
    for files in (copied, none, replace(none, signed=True)):
        parsed.clear()
        found = find_or_build_ir(files)
        assert found.weights_sha256 == copied.listed_hash("best.bin")
        assert set(parsed) == {good}
    assert rebuilt


@pytest.mark.parametrize("change", [huge_input, float_input], ids=lambda change: change.__name__)
def test_another_input_is_refused_though_it_is_listed(change, copied, rebuilt):
    good = copied.listed_hash("best.bin")
    change(copied)
    assert find_or_build_ir(list_all(copied)).weights_sha256 == good
    assert rebuilt


def test_a_listed_network_is_not_made_again(copied, rebuilt):
    assert find_or_build_ir(copied).weights_sha256 == copied.listed_hash("best.bin")
    assert not rebuilt


def test_only_what_the_card_lists_is_kept_beside(copied, rebuilt):
    for name in ("best.xml", "best.bin"):
        (copied.folder / name).unlink()
    find_or_build_ir(replace(copied, card={**copied.card, "files": {}}))
    assert [path.name for path in copied.folder.iterdir()] == ["best.h5"]
    find_or_build_ir(copied)
    find_or_build_ir(copied)
    assert len(rebuilt) == 2 and not any(folder.exists() for folder in rebuilt)


def test_a_network_that_cannot_be_made_leaves_nothing(copied, tmp_path, monkeypatch):
    (copied.folder / "best.xml").unlink()

    def write_half(_, folder):
        (folder / ".best.part.bin").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(network_files, "export_ir", write_half)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # What a reload needs to leave the old model in its place.
    with pytest.raises(ArtifactError, match="No space left on device"):
        find_or_build_ir(copied)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert sorted(path.name for path in copied.folder.iterdir()) == ["best.bin", "best.h5"]


def test_a_full_disk_keeps_no_half_of_a_network(copied, rebuilt, monkeypatch):
    (copied.folder / "best.xml").unlink()

    def write_half(_, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", write_half)
    assert find_or_build_ir(copied).weights_sha256 == copied.listed_hash("best.bin")
    assert sorted(path.name for path in copied.folder.iterdir()) == ["best.bin", "best.h5"]


def test_an_export_that_fails_leaves_nothing(files, tmp_path, monkeypatch):
    network = ov.Core().read_model(files.folder / "best.xml")

    def write_half(_, xml, weights):
        weights.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ir.ov, "serialize", write_half)
    with pytest.raises(OSError, match="No space left"):
        write_ir(network, tmp_path / "best.xml", files.h5_sha256)
    assert not list(tmp_path.iterdir())


def test_without_a_temporary_folder_it_says_what_to_do(copied, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(copied.folder / "missing"))
    unlisted = replace(copied, signed=True, card={**copied.card, "files": {}})
    with pytest.raises(ArtifactError, match=r"set TMPDIR .* or publish a card that lists best.xml"):
        find_or_build_ir(unlisted)


def test_a_file_that_cannot_be_mapped_is_no_network(copied, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(ir.mmap, "mmap", refuse)
    assert map_ir(copied.folder / "best.xml", copied.h5_sha256) is None
