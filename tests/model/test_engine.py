"""The engine: which files it runs, what it refuses, and requests from many threads at once."""

import logging
import mmap
import shutil
import tempfile
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import openvino as ov
import pytest

from cspine.core.errors import ArtifactError, ConfigError, OverloadedError
from cspine.model import export
from cspine.model.artifact import resolve_version
from cspine.model.engine import Engine, find_int8
from cspine.model.export import MappedNetwork, export_ir, map_ir, read_ir
from cspine.model.quantise import quantise_ir
from cspine.model.self_test import check_self_test
from cspine.model.versions import ModelFiles, hash_file


@pytest.fixture(scope="module")
def files(saved, tmp_path_factory) -> ModelFiles:
    folder = tmp_path_factory.mktemp("engine")
    shutil.copy(saved("cnn").path, folder / "best.h5")
    export_ir(folder / "best.h5", folder)
    return resolve_version(folder)


@pytest.fixture(scope="module")
def engine(files) -> Engine:
    return Engine.load(files, streams=2)


def with_int8(files, folder) -> ModelFiles:
    for path in files.folder.glob("best.*"):
        shutil.copy(path, folder / path.name)
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8)
    quantise_ir(folder, files.h5_sha256, images)
    listed = {path.name: hash_file(path) for path in folder.glob("best*")}
    card = {**files.card, "files": listed}
    return ModelFiles(folder, folder / "best.h5", files.h5_sha256, files.version, card)


def test_grey_is_three_equal_channels(engine, saved):
    grey = saved("cnn").images[..., 0]
    colour = np.repeat(grey[..., None], 3, axis=3)
    assert np.array_equal(engine.infer(grey).logit, engine.infer(colour).logit)


def test_answers_keep_their_order_over_many_threads(engine):
    images = np.random.default_rng(2).integers(0, 256, (16, 64, 64), dtype=np.uint8)
    expected = engine.infer(images).logit
    with ThreadPoolExecutor(8) as pool:
        # Eight threads on two streams: answers must not change places.
        futures = list(pool.map(engine.submit, np.tile(images, (10, 1, 1))))
    got = np.concatenate([future.result(timeout=60).logit for future in futures])
    assert np.array_equal(got, np.tile(expected, 10))
    assert engine.queue_depth == 0


def test_an_engine_that_nobody_holds_is_freed(files):
    # A service that reloads for months must not keep every model it has served.
    engine = Engine.load(files)
    engine.infer(np.zeros((3, engine.image_size, engine.image_size), np.uint8))
    held = [weakref.ref(engine), weakref.ref(engine._compiled)]
    # The last image may still run: its request ends first, on a thread of its own.
    engine.submit(np.zeros((engine.image_size, engine.image_size), np.uint8))
    del engine
    end = time.monotonic() + 30
    while any(one() is not None for one in held):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_engine_may_be_dropped_in_its_own_callback(files):
    engines, ended = [Engine.load(files, streams=1)], threading.Event()
    image = np.zeros((engines[0].image_size, engines[0].image_size), np.uint8)
    retired = weakref.ref(engines[0]._requests[0])

    def drop(_):
        engines.clear()
        ended.set()

    engines[0].submit(image).add_done_callback(drop)
    assert ended.wait(30)
    end = time.monotonic() + 30
    while retired() is not None:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_cancelled_image_is_dropped(engine):
    image = np.zeros((64, 64), np.uint8)
    futures = [engine.submit(image) for _ in range(60)]
    cancelled = [future.cancel() for future in futures]
    rest = [f.result(timeout=60) for f, gone in zip(futures, cancelled, strict=True) if not gone]
    assert len({float(one.logit[0]) for one in rest}) <= 1
    assert engine.infer(image[None]).logit.shape == (1,)


@pytest.mark.parametrize(
    "image",
    [np.zeros((63, 64), np.uint8), np.zeros((64, 64), np.float32), np.zeros((64, 64, 4), np.uint8)],
)
def test_another_shape_or_type_is_named(image, engine):
    with pytest.raises(ValueError, match=r"must be uint8 \(64, 64\)"):
        engine.submit(image)


def test_an_unknown_precision_is_named(files):
    with pytest.raises(ConfigError, match=r"f32 or bf16 or int8. Received: 'fp4'"):
        Engine.load(files, "fp4")


def test_bf16_says_what_it_computes_in(files, engine, saved):
    rounded = Engine.load(files, "bf16")
    assert rounded.precision == "bf16" and rounded.precision_used in ("f32", "bf16")
    images = saved("cnn").images
    assert np.allclose(rounded.infer(images).logit, engine.infer(images).logit, atol=0.2)


def test_int8_runs_where_it_belongs(files, engine, tmp_path, caplog):
    whole = with_int8(files, tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8)
    quantised = Engine.load(whole, "int8")
    assert quantised.precision == "int8" and not caplog.records
    pair = [one.infer(images).embedding.ravel() for one in (quantised, engine)]
    # Rounded to eight bits, and still the same network.
    assert np.corrcoef(*pair)[0, 1] > 0.95


def test_int8_of_another_model_is_ignored_with_one_warning(files, tmp_path, caplog):
    whole = with_int8(files, tmp_path)
    other = ModelFiles(whole.folder, whole.h5, "0" * 64, whole.version, {"files": {}})
    with caplog.at_level(logging.WARNING):
        network = Engine.load(ModelFiles(**{**vars(other), "h5_sha256": files.h5_sha256}), "int8")
    assert network.precision == "f32"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_int8_weights_the_card_does_not_list_are_ignored(files, tmp_path):
    whole = with_int8(files, tmp_path)
    assert find_int8(whole) is not None
    for name in ("best_int8.bin", "best_int8.xml"):
        listed = {**whole.card["files"], name: "0" * 64}
        assert find_int8(replace(whole, card={**whole.card, "files": listed})) is None


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


@pytest.mark.parametrize("shape", [[1, -1, -1, 3], [1, 64, 64, 3]])
def test_a_network_that_is_none_of_ours_is_named(shape):
    pixels = ov.opset13.parameter(shape, np.uint8, name="pixels")
    network = ov.Model([ov.opset13.relu(ov.opset13.convert(pixels, "f32"))], [pixels])
    with pytest.raises(ArtifactError, match=r"pixels \(1, S, S, 3\) and give logit"):
        Engine.of_mapped(MappedNetwork(network, mmap.mmap(-1, 4096), ""), "f32", 1)


def test_an_ir_too_large_to_be_ours_is_not_parsed(files, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MAX_XML_BYTES", 100)
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


def test_ir_of_another_model_is_made_anew(files, tmp_path):
    for path in files.folder.glob("best.*"):
        shutil.copy(path, tmp_path / path.name)
    # Zeros of the right length: only the hash can tell.
    (tmp_path / "best.bin").write_bytes(bytes((tmp_path / "best.bin").stat().st_size))
    assert read_ir(tmp_path / "best.xml", files.h5_sha256) is None
    Engine.load(resolve_version(tmp_path))
    assert read_ir(tmp_path / "best.xml", files.h5_sha256) is not None


def test_the_childs_reason_reaches_the_caller(tmp_path):
    (tmp_path / "best.h5").write_bytes(b"no model")
    with pytest.raises(ArtifactError, match=r"must be HDF5"):
        export_ir(tmp_path / "best.h5", tmp_path)


def test_self_test_tells_the_right_network_from_a_wrong_one(engine):
    import base64
    import struct
    import zlib

    from cspine.imaging.preprocess import encode_png

    images = np.random.default_rng(4).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    test = {
        "inputs": [base64.b64encode(encode_png(image)).decode() for image in images],
        "expected": engine.infer(images).logit.tolist(),
        "tolerance": 1e-3,
    }
    check_self_test(engine, {"self_test": test})
    check_self_test(engine, {})
    wrong = {**test, "expected": [value + 1 for value in test["expected"]]}
    png = encode_png(images[0])
    huge = png[:16] + struct.pack(">II", 30_000, 30_000) + png[24:]
    huge = huge[:29] + struct.pack(">I", zlib.crc32(huge[12:29])) + huge[33:]
    bomb, cut = ({**test, "inputs": [base64.b64encode(one).decode()]} for one in (huge, png[:40]))
    few = {**test, "expected": [0.0]}
    for broken in (wrong, few, {**test, "inputs": ["!"]}, {"inputs": []}, bomb, cut, [5]):
        with pytest.raises(ArtifactError, match=r"self.test"):
            check_self_test(engine, {"self_test": broken})


class FragileEngine(Engine):
    """An engine whose callbacks fail while `broken` is set, as they do where memory is short."""

    broken = False

    def _finish(self, key):
        if self.broken:
            raise MemoryError
        super()._finish(key)


def test_a_failed_inference_is_told_and_costs_no_request(files):
    engine, image = FragileEngine.load(files, streams=1), np.zeros((64, 64), np.uint8)
    engine.broken = True
    # OpenVINO never calls back for it again; the next submit must find out.
    failed = [engine.submit(image)]
    (request, _) = next(iter(engine._running.values()))
    with pytest.raises(RuntimeError):
        request.wait()
    engine.broken = False
    assert engine.submit(image).result(timeout=60).logit.shape == (1,)
    with pytest.raises(OverloadedError, match="failed"):
        failed[0].result(timeout=0)
