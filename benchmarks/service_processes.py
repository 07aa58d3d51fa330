"""Start, measure and stop services, load clients and picture servers as child processes.

The benchmarks of serving share this module. Our service is `predict_flask.py` with a model folder.
CPU and memory are read from the operating system, not from the service's own metrics.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load_client import Job, encode_job
from benchmarks.sockets import listen

ROOT = Path(__file__).resolve().parents[1]
LOAD = "benchmarks.load_client"
# TensorFlow on a busy machine takes minutes to import.
START_LIMIT_S = 600


def free_port() -> int:
    """Return a free TCP port."""
    with listen() as listener:
        return int(listener.getsockname()[1])


def run_child(module: str, role: str, *arguments: object, backend: str = "openvino") -> str:
    """Run one role of a benchmark in a child process and return what it prints."""
    command = [sys.executable, "-m", module, "--role", role, *map(str, arguments)]
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


class Service:
    """A service in a child process."""

    def __init__(self, command: list[str], port: int, environment: dict[str, str]) -> None:
        """Start the process, wait for status 200 of `/health/ready`, and set `ready_s`."""
        start = time.perf_counter()
        self.port = port
        self._child = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.DEVNULL
        )
        # Stops the service even if the benchmark fails.
        atexit.register(self.end)
        self._process = psutil.Process(self._child.pid)
        while self._ask("/health/ready")[0] != 200:
            if self._child.poll() is not None or time.perf_counter() - start > START_LIMIT_S:
                raise RuntimeError(f"{command} ended, or was not ready within {START_LIMIT_S} s")
            time.sleep(0.01)
        self.ready_s = round(time.perf_counter() - start, 2)
        self.resident_mb_when_ready = self.resident_mb()

    def _ask(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def precision(self) -> str:
        """Return the precision that the service reports in its metrics."""
        found = re.search(r'cspine_model_info\{.*?precision="(\w+)"', self._ask("/metrics")[1])
        return found[1] if found else "unknown"

    def count_swaps(self) -> int:
        """Return how often the service has replaced its model by a new version."""
        found = re.search(
            r'cspine_reloads_total\{result="swapped"\} (\d+)', self._ask("/metrics")[1]
        )
        return int(found[1]) if found else 0

    def cpu_s(self) -> float:
        """Return the CPU seconds used so far by the service and its child processes."""
        # Child processes count, because the service may decode in them.
        every = [self._process, *self._process.children(recursive=True)]
        return float(sum(sum(one.cpu_times()[:2]) for one in every))

    def resident_mb(self) -> float:
        """Return the current resident memory, in 10⁶ bytes."""
        return round(self._process.memory_info().rss / 1e6, 1)

    def peak_mb(self) -> float:
        """Return the largest resident memory so far, in 10⁶ bytes (Linux's VmHWM)."""
        # Readings at intervals would miss a peak; the kernel keeps the maximum.
        status = Path(f"/proc/{self._child.pid}/status").read_text(encoding="utf-8")
        return round(int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6, 1)

    def measure(self, job: Job) -> dict[str, Any]:
        """Run a client; return its figures, and the service's CPU per request and memory."""
        before = self.cpu_s()
        figures = run_client(job)
        figures["service_cpu_s_per_request"] = round((self.cpu_s() - before) / figures["sent"], 4)
        figures["resident_mb"], figures["peak_mb"] = self.resident_mb(), self.peak_mb()
        return figures

    def end(self) -> None:
        """Stop the process; further calls do nothing."""
        self._child.terminate()
        self._child.wait()


def start_ours(folder: Path, precision: str, pictures_port: int = 1, **settings: str) -> Service:
    """Start `predict_flask.py` without its answer cache; it may fetch from the picture server."""
    port = free_port()
    given = {f"CSPINE_{name.upper()}": value for name, value in settings.items()}
    return Service(
        [sys.executable, "predict_flask.py"],
        port,
        {
            "CSPINE_MODEL_DIR": str(folder),
            "CSPINE_LISTEN": f"127.0.0.1:{port}",
            "CSPINE_PRECISION": precision,
            "CSPINE_CACHE": "off",
            "CSPINE_LOG_LEVEL": "warning",
            # A model of synthetic images then judges every image that a benchmark sends.
            "CSPINE_ANSWER_SYNTHETIC": "on",
            "CSPINE_FETCH_ALLOW": f"127.0.0.1:{pictures_port}",
            **given,
        },
    )


def run_client(job: Job) -> dict[str, Any]:
    """Run a client process and return its figures."""
    done = subprocess.run(
        [sys.executable, "-m", LOAD, "client"],
        cwd=ROOT,
        input=encode_job(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


@contextlib.contextmanager
def helper(role: str, *arguments: object) -> Iterator[tuple[int, psutil.Process]]:
    """Run the picture server or the answerer; yield its port and its process."""
    command = [sys.executable, "-m", LOAD, role, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield int(child.stdout.readline()), psutil.Process(child.pid)
        finally:
            child.kill()


def write_pictures(folder: Path, count: int = 16) -> list[Path]:
    """Write `count` PNGs of synthetic slices, 512², in which the finder finds a vertebra."""
    from cspine.core.png import encode_png
    from cspine.imaging.vertebra.finder import find_vertebra
    from cspine.phantom.config import PhantomConfig
    from cspine.phantom.render import render_patient

    # A slice without a vertebra is answered without running the network.
    paths: list[Path] = []
    for seed in range(1, 100):
        for one in render_patient(seed, PhantomConfig()):
            if find_vertebra(one.grey) is not None and len(paths) < count:
                paths.append(folder / f"{len(paths)}.png")
                paths[-1].write_bytes(encode_png(one.grey))
        if len(paths) == count:
            break
    return paths
