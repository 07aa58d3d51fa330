"""Which network files run, and which are ignored, refused or made anew."""

import logging
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cspine.core.errors import ArtifactError
from cspine.model.engine.engine import Engine
from cspine.model.engine.network_files import choose_precision, find_int8
from cspine.model.export import ir
from cspine.model.export.ir import export_ir, map_ir, read_ir
from cspine.model.store.card import write_card
from cspine.model.store.registry import resolve_version

ROOT = Path(__file__).parents[3]


def test_auto_takes_what_the_card_proved():
    assert choose_precision({"precision": {"chosen": "int8"}}, "auto") == "int8"
    assert choose_precision({"precision": {"chosen": "int8"}}, "f32") == "f32"
    assert choose_precision({}, "auto") == "f32"
    for card in ({"precision": {"chosen": "fp64"}}, {"precision": 5}):
        with pytest.raises(ArtifactError, match=r"`precision\.chosen` in the card"):
            choose_precision(card, "auto")


def test_int8_of_another_model_is_ignored_with_one_warning(int8_files, caplog):
    with caplog.at_level(logging.WARNING):
        network = Engine.load(replace(int8_files, card={**int8_files.card, "files": {}}), "int8")
    assert network.precision == "f32"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_int8_weights_the_card_does_not_list_are_ignored(int8_files):
    assert find_int8(int8_files) is not None
    for name in ("best_int8.bin", "best_int8.xml"):
        listed = {**int8_files.card["files"], name: "0" * 64}
        assert find_int8(replace(int8_files, card={**int8_files.card, "files": listed})) is None


def test_memory_that_was_given_back_is_read_again(files):
    mapped = map_ir(files.folder / "best.xml", files.h5_sha256)
    before = bytes(mapped.weights)
    mapped.drop_pages()
    assert bytes(mapped.weights) == before


def test_an_empty_or_missing_bin_is_no_network(files, tmp_path):
    shutil.copy(files.folder / "best.xml", tmp_path)
    assert map_ir(tmp_path / "best.xml", files.h5_sha256) is None
    (tmp_path / "best.bin").touch()
    assert map_ir(tmp_path / "best.xml", files.h5_sha256) is None


def test_an_ir_too_large_to_be_ours_is_not_parsed(files, tmp_path, monkeypatch):
    monkeypatch.setattr(ir, "MAX_XML_BYTES", 100)
    assert map_ir(files.folder / "best.xml", files.h5_sha256) is None


def test_the_ir_of_a_signed_card_leaves_no_file_behind(files, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    signed = replace(files, signed=True, card={**files.card, "files": {}})
    built = Engine.load(signed)
    image = np.zeros((64, 64), np.uint8)
    np.testing.assert_array_equal(
        built.infer(image[None]).logit, Engine.load(files).infer(image[None]).logit
    )
    assert not list(tmp_path.iterdir())


def test_a_lone_h5_is_served_and_nothing_is_written_beside_it(files, tmp_path):
    shutil.copy(files.h5, tmp_path)
    Engine.load(resolve_version(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["best.h5"]


def test_an_ir_of_other_weights_is_none_of_this_model(files, tmp_path):
    for path in files.folder.glob("best.*"):
        shutil.copy(path, tmp_path / path.name)
    # Zeros of the right length: only the hash can tell.
    (tmp_path / "best.bin").write_bytes(bytes((tmp_path / "best.bin").stat().st_size))
    assert read_ir(tmp_path / "best.xml", files.h5_sha256) is None
    assert map_ir(tmp_path / "best.xml", files.h5_sha256) is None


def test_the_childs_reason_reaches_the_caller(tmp_path):
    (tmp_path / "best.h5").write_bytes(b"no model")
    with pytest.raises(ArtifactError, match=r"must be HDF5"):
        export_ir(tmp_path / "best.h5", tmp_path)


def test_an_export_that_no_card_lists_is_named(files, tmp_path):
    command = [sys.executable, "-m", "cspine.model.export", str(tmp_path)]
    for card in (None, files.card):
        shutil.copy(files.h5, tmp_path)
        if card:
            write_card(tmp_path, card)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert ("does not list this best.xml" in done.stderr) == (card is None)
