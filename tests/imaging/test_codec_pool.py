"""Decoding in child processes: what crashes, hangs or lies there is an ImageError here."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from cspine.core.errors import ImageError
from cspine.imaging.dicom import codec_pool
from cspine.imaging.dicom.codec_pool import CodecPool, decode_in_child

RLE = "1.2.840.10008.1.2.5"


def rle_frame(values: np.ndarray) -> bytes:
    """One segment of literal runs of at most 128 bytes, PS3.5 annex G."""
    raw = values.tobytes()
    runs = [raw[start : start + 128] for start in range(0, len(raw), 128)]
    header = np.array([1, 64, *[0] * 14], "<u4").tobytes()
    segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
    return header + segment + bytes(len(segment) % 2)  # of even length, G.3.1


def decode(values: np.ndarray) -> bytes:
    return decode_in_child(rle_frame(values), RLE, values.shape, (8, 8), False)


@pytest.fixture
def pool(monkeypatch, tmp_path):
    """A pool of its own whose child is the script that `write` is given."""
    pool = CodecPool()
    monkeypatch.setattr(codec_pool, "shared_pool", lambda: pool)

    def write(script: str) -> CodecPool:
        path = tmp_path / "child.py"
        path.write_text("import sys\nsys.stdin.buffer.read(90)\n" + script)
        monkeypatch.setattr(codec_pool, "_CHILD", path)
        return pool

    yield write
    pool.close()


def test_frames_come_back():
    values = np.arange(80, dtype=np.uint8).reshape(8, 10)
    assert decode(values)[:80] == values.tobytes()


def test_one_child_serves_many_frames(pool):
    real = codec_pool._CHILD
    children = pool("")
    codec_pool._CHILD = real
    for _ in range(3):
        decode(np.zeros((8, 8), np.uint8))
    assert len(children.idle) == 1


@pytest.mark.parametrize(
    "script",
    [
        "import os; os.abort()",
        "sys.exit(0)",
        "sys.stdout.buffer.write(b'\\x10\\0')",
        "sys.stdout.buffer.write(b'\\x10\\0\\0\\0short')",
        "sys.stdout.buffer.write(b'\\xff\\xff\\xff\\xff' + bytes(10**6))",
        "sys.stdout.buffer.write(bytes(4)); sys.stdout.flush(); sys.stdin.buffer.read()",
    ],
)
def test_a_bad_child_is_an_image_error(pool, script):
    children = pool(script)
    with pytest.raises(ImageError, match="damaged stream"):
        decode(np.zeros((8, 8), np.uint8))
    assert children.lost == 1 or "bytes(4)" in script  # an empty answer is a child's fair one


def test_a_late_child_is_killed(pool, monkeypatch):
    children = pool("sys.stdin.buffer.read()")
    monkeypatch.setattr(codec_pool, "_DEADLINE_S", 0.3)
    with pytest.raises(ImageError):
        decode(np.zeros((8, 8), np.uint8))
    assert children.lost == 1 and not children.idle


def test_a_child_inherits_no_secret(monkeypatch):
    monkeypatch.setenv("CSPINE_API_KEYS", "planted-secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/a/library")
    children = CodecPool()
    child = children.take()
    try:
        told = b""
        # The file is empty until the new program has taken over.
        while not told and child.process.poll() is None:
            told = Path(f"/proc/{child.process.pid}/environ").read_bytes()
    finally:
        child.close()
    names = {line.partition(b"=")[0] for line in told.split(b"\0") if line}
    assert names == {b"LD_LIBRARY_PATH", b"PYTHONPATH"}
    assert b"planted-secret" not in told


def test_a_child_killed_while_idle_costs_no_frame(monkeypatch):
    children = CodecPool()
    monkeypatch.setattr(codec_pool, "shared_pool", lambda: children)
    decode(np.zeros((8, 8), np.uint8))
    child = children.idle[0].process
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert decode(np.zeros((8, 8), np.uint8))[:64] == bytes(64)
    assert children.lost == 1
    children.close()


def test_many_threads_do_not_mix_frames():
    failures = []

    def work(level: int) -> None:
        values = np.full((32, 32), level, np.uint8)
        for _ in range(10):
            if decode(values)[:1024] != values.tobytes():
                failures.append(level)

    threads = [threading.Thread(target=work, args=(level,)) for level in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_parents_child_is_not_used_after_a_fork(monkeypatch):
    decode(np.zeros((8, 8), np.uint8))
    pool = codec_pool.shared_pool()
    monkeypatch.setattr(codec_pool.os, "getpid", lambda: -1)
    before = list(pool.idle)
    fresh = pool.take()
    assert fresh not in before and not pool.idle
    for child in (*before, fresh):
        child.close()
