"""The engine: what it refuses, what it frees, and requests from many threads at once."""

import mmap
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openvino as ov
import pytest

from cspine.core.errors import ArtifactError, ConfigError, OverloadedError
from cspine.model.engine.engine import Engine
from cspine.model.engine.self_test import check_self_test
from cspine.model.export.ir import MappedNetwork
from support.waiting import wait_for


@pytest.fixture(scope="module")
def engine(files) -> Engine:
    return Engine.load(files, streams=2)


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
    assert engine.busy_s() == 0


def test_an_image_that_would_be_late_is_dropped_while_others_wait(files):
    engine = Engine.load(files, streams=1)
    image = np.zeros((engine.image_size,) * 2, np.uint8)
    answers = [engine.submit(image, due_s=time.monotonic()) for _ in range(200)]
    # Late as well, and the last: with nobody behind it, it costs nobody anything.
    assert answers[-1].result(timeout=60).logit.shape == (1,)
    assert 0 < sum(answer.cancelled() for answer in answers) < 200
    assert all(answer.done() for answer in answers)


def test_an_engine_that_nobody_holds_is_freed(files):
    # A service that reloads for months must not keep every model it has served.
    engine = Engine.load(files)
    engine.infer(np.zeros((3, engine.image_size, engine.image_size), np.uint8))
    held = [weakref.ref(engine), weakref.ref(engine._resources.network[-1])]
    # The last image may still run: its request ends first, on a thread of its own.
    engine.submit(np.zeros((engine.image_size, engine.image_size), np.uint8))
    del engine
    wait_for(lambda: all(one() is None for one in held), 30)


def test_an_engine_may_be_dropped_in_its_own_callback(files):
    engines, ended = [Engine.load(files, streams=1)], threading.Event()
    image = np.zeros((engines[0].image_size, engines[0].image_size), np.uint8)
    retired = weakref.ref(engines[0]._resources.requests[0])

    def drop(_):
        engines.clear()
        ended.set()

    engines[0].submit(image).add_done_callback(drop)
    assert ended.wait(30)
    wait_for(lambda: retired() is None, 30)


def test_an_answer_that_is_waited_for_comes_after_its_engine_was_dropped(files):
    engine = Engine.load(files, streams=1)
    futures = [engine.submit(np.zeros((64, 64), np.uint8)) for _ in range(20)]
    del engine
    assert all(future.result(timeout=60).logit.shape == (1,) for future in futures)


def test_a_process_that_drops_an_engine_as_it_ends_ends_well(files):
    code = f"""
from pathlib import Path
import numpy as np
from cspine.model.engine.engine import Engine
from cspine.model.store.registry import resolve_version
for _ in range(2):
    engine = Engine.load(resolve_version(Path({str(files.folder)!r})))
    for _ in range(8):
        engine.submit(np.zeros((64, 64), np.uint8))
    del engine
kept = Engine.load(resolve_version(Path({str(files.folder)!r})))
kept.submit(np.zeros((64, 64), np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


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


def test_int8_runs_where_it_belongs(int8_files, engine, caplog):
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8)
    quantised = Engine.load(int8_files, "int8")
    assert quantised.precision == "int8" and not caplog.records
    pair = [one.infer(images).embedding.ravel() for one in (quantised, engine)]
    # Rounded to eight bits, and still the same network.
    assert np.corrcoef(*pair)[0, 1] > 0.95


@pytest.mark.parametrize("shape", [[1, -1, -1, 3], [1, 64, 64, 3]])
def test_a_network_that_is_none_of_ours_is_named(shape):
    pixels = ov.opset13.parameter(shape, np.uint8, name="pixels")
    network = ov.Model([ov.opset13.relu(ov.opset13.convert(pixels, "f32"))], [pixels])
    with pytest.raises(ArtifactError, match=r"pixels \(1, S, S, 3\) and give logit"):
        Engine.of_mapped(MappedNetwork(network, mmap.mmap(-1, 4096), ""), "f32", 1)


def test_self_test_tells_the_right_network_from_a_wrong_one(engine):
    import base64
    import struct
    import zlib

    from cspine.core.png import encode_png

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
    long = {**test, "tolerance": "x" * 10_000}
    for broken in (wrong, few, {**test, "inputs": ["!"]}, {"inputs": []}, bomb, cut, [5], long):
        with pytest.raises(ArtifactError, match=r"self.test") as caught:
            check_self_test(engine, {"self_test": broken})
        assert len(str(caught.value)) < 400


class FragileEngine(Engine):
    """An engine whose callbacks fail while `broken` is set, as they do where memory is short."""

    broken = False

    def _finish(self, key):
        if self.broken:
            raise MemoryError
        super()._finish(key)


@pytest.mark.parametrize("is_looked_at", [False, True])
def test_a_failed_inference_is_told_and_costs_no_request(files, is_looked_at):
    engine, image = FragileEngine.load(files, streams=1), np.zeros((64, 64), np.uint8)
    engine.broken = True
    # OpenVINO never calls back for it again; the next submit must find out, or readiness.
    failed = [engine.submit(image)]
    (request, _) = next(iter(engine._running.values()))
    with pytest.raises(RuntimeError):
        request.wait()
    engine.broken = False
    if is_looked_at:
        assert engine.busy_s() == 0 and failed[0].done()
    assert engine.submit(image).result(timeout=60).logit.shape == (1,)
    with pytest.raises(OverloadedError, match="failed"):
        failed[0].result(timeout=0)


def test_an_image_that_is_alone_has_all_cores_and_the_same_answer(files, monkeypatch):
    monkeypatch.setattr("cspine.model.engine.engine.ALONE_FROM_S", 0.0)
    engine = Engine.load(files, streams=2)
    engine.compile_low_latency()
    images = np.random.default_rng(3).integers(0, 256, (6, 64, 64), dtype=np.uint8)
    started = []
    take = engine._take_idle
    monkeypatch.setattr(engine, "_take_idle", lambda: started.append(take()) or started[-1])
    alone = [engine.submit(image, alone=True).result(timeout=60).logit[0] for image in images]
    assert {id(request) for request in started if request is not None} == engine._of_alone
    started.clear()
    assert np.allclose(engine.infer(images).logit, alone, rtol=0, atol=1e-4)
    assert not {id(request) for request in started if request is not None} & engine._of_alone


def test_weights_that_changed_on_the_disk_get_no_request(int8_files, monkeypatch):
    monkeypatch.setattr("cspine.model.engine.engine.ALONE_FROM_S", 0.0)
    engine = Engine.load(int8_files, streams=2)
    weights = np.fromfile(path := int8_files.folder / "best.bin", np.float32)
    weights[(np.abs(weights) > 1e-3) & (np.abs(weights) < 1)] *= 0.5
    with path.open("r+b") as file:  # in place, as `cp` writes
        file.write(weights.tobytes())
    with pytest.raises(ArtifactError, match="changed"):
        engine.compile_low_latency()
    assert engine.submit(np.zeros((64, 64), np.uint8), alone=True).result(timeout=60)
    assert not engine._of_alone


def test_all_cores_are_asked_for_once(files, monkeypatch):
    monkeypatch.setattr("cspine.model.engine.engine.ALONE_FROM_S", 0.0)
    engine = Engine.load(files, streams=2)
    engine.compile_low_latency()
    engine.compile_low_latency()
    assert len(engine._resources.requests) == 3


def test_a_small_network_is_compiled_once(files, monkeypatch):
    monkeypatch.setattr("cspine.model.engine.engine.ALONE_FROM_S", 1e9)
    engine = Engine.load(files, streams=2)
    engine.compile_low_latency()
    assert len(engine._resources.requests) == 2
