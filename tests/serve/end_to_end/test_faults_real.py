"""Faults under a real service: while they last it answers or fails cleanly, then all is well."""

import os
import resource
import shutil
import signal
import socket
import time

import numpy as np
import pytest
import requests

from support.hostile_samples import shipped_as_ct
from support.real_service import running
from support.tiny_model import as_png, draw_neck
from support.waiting import wait_for

IDLE = 1000
JUMPS = """
import itertools, runpy, time
now, jumps = time.time, itertools.cycle((0, 3e7, -3e7))
time.time = lambda: now() + next(jumps)
runpy.run_path("predict_flask.py", run_name="__main__")
"""
LARGE = as_png(np.tile(draw_neck(512), (12, 12)))


@pytest.fixture(scope="module")
def folder(tiny_models, tmp_path_factory):
    return shutil.copytree(tiny_models, tmp_path_factory.mktemp("faults") / "models")


@pytest.fixture(scope="module")
def service(folder):
    settings = {"model_dir": str(folder), "precision": "f32", "cache": "off", "deadline_s": "60"}
    with running(folder.with_name("log.txt"), **settings) as service:
        yield service


def assert_well(service) -> None:
    """The service is ready and answers an image it has not seen."""
    answer = service.post(as_png(draw_neck(seed=time.monotonic_ns() % 2**31)), timeout=60)
    assert answer.status_code == 200
    assert service.is_ready()


class Limit:
    """A limit of the running service, lifted when the block ends."""

    def __init__(self, service, kind: int, value: int):
        self.pid, self.kind, self.value = service.process.pid, kind, value

    def __enter__(self):
        self.before = resource.prlimit(self.pid, self.kind)
        resource.prlimit(self.pid, self.kind, (self.value, self.before[1]))

    def __exit__(self, *_):
        resource.prlimit(self.pid, self.kind, self.before)


def test_a_disk_that_takes_no_byte(service, neck_png):
    lines = service.log.read_text().count("\n")
    with Limit(service, resource.RLIMIT_FSIZE, 0):
        padded = neck_png + bytes(3_000_000)
        # No body is ever spooled to a disk.
        assert service.post(padded).status_code == 200
        files = {"file": padded}
        assert requests.post(f"{service.url}/predict", files=files, timeout=60).status_code == 200
        assert_well(service)
    # Not even the log had room.
    assert service.log.read_text().count("\n") == lines
    assert_well(service)
    wait_for(lambda: service.log.read_text().count("\n") > lines)


def test_memory_that_runs_out(service, neck_png):
    assert service.post(LARGE).status_code == 200
    with Limit(service, resource.RLIMIT_AS, (service.status("VmSize") - 100_000) * 1024):
        refused = service.post(LARGE)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert service.process.poll() is None
    assert service.post(LARGE).status_code == 200
    assert_well(service)


def test_a_codec_child_that_is_killed(service):
    compressed = shipped_as_ct("MR_small_jp2klossless.dcm")
    first = service.post(compressed)
    assert first.status_code == 200
    for child in service.children():
        os.kill(child, signal.SIGKILL)
    wait_for(lambda: service.post(compressed).content == first.content)
    assert_well(service)


def test_a_thousand_idle_connections(service):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, IDLE + 200)), hard))
    idle = []
    try:
        for _ in range(IDLE):
            idle.append(socket.create_connection(("127.0.0.1", service.port), timeout=20))
        assert_well(service)
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(idle) == IDLE
    assert_well(service)


def test_clients_that_vanish(service, neck_png):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(neck_png) + neck_png
    for number in range(100):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
            connection.sendall(whole[: (number + 1) * len(whole) // 100])
    assert_well(service)


def test_a_model_folder_that_goes_and_comes_back(service, folder, neck_png):
    before, away = service.post(neck_png).json(), folder.with_name("away")
    folder.rename(away)
    assert service.post(neck_png).json() == before
    assert_well(service)
    reloads = service.log.read_text().count("replaces model")
    shutil.copytree(away, folder)
    wait_for(lambda: service.log.read_text().count("replaces model") > reloads, 60)
    assert service.post(neck_png).json() == before
    assert_well(service)


def test_a_clock_that_jumps_a_year_at_every_look(folder, neck_png):
    settings = {"model_dir": str(folder), "precision": "f32"}
    with running(folder.with_name("jumps.txt"), "-c", JUMPS, **settings) as service:
        for _ in range(5):
            assert service.post(neck_png).status_code == 200
        with socket.create_connection(("127.0.0.1", service.port), timeout=40) as connection:
            connection.sendall(b"GET / HT")
            # Its deadline came, by a clock that does not jump.
            assert connection.recv(9) == b""
        assert_well(service)
