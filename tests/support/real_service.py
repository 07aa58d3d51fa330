"""predict_flask.py as a process of its own, for tests and benchmarks: start, wait, look."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from .waiting import wait_for

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start(log: Path, *command: str, **settings: str) -> subprocess.Popen:
    """Start the service, or another Python command, with these `CSPINE_*` settings alone."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CSPINE_")}
    environment |= {f"CSPINE_{name.upper()}": value for name, value in settings.items()}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *(command or ("predict_flask.py",))],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )


def end_of(process: subprocess.Popen) -> int:
    """The exit status of a process that is to end by itself; one that does not is killed."""
    try:
        return process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()


def wait_until_ready(process: subprocess.Popen, url: str, log: Path) -> None:
    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return requests.get(f"{url}/health/ready", timeout=2).ok
        except requests.ConnectionError:
            return False

    wait_for(is_ready, 60, log.read_text)


class RealService:
    """A running service: its address, its process and its log."""

    def __init__(self, log: Path, *command: str, **settings: str):
        self.log, self.port = log, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = start(log, *command, listen=f"127.0.0.1:{self.port}", **settings)

    def post(self, data: bytes, query: str = "", timeout: float = 30) -> requests.Response:
        headers = {"Content-Type": "application/octet-stream"}
        url = f"{self.url}/predict{query}"
        return requests.post(url, data=data, headers=headers, timeout=timeout)

    def is_ready(self) -> bool:
        return requests.get(f"{self.url}/health/ready", timeout=10).ok

    def status(self, field: str) -> int:
        """A field of the process's status, in KiB where it is memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))

    def children(self) -> list[int]:
        """The ids of its child processes."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]


@contextmanager
def running(log: Path, *command: str, **settings: str) -> Iterator[RealService]:
    """Run the service until the block ends."""
    service = RealService(log, *command, **settings)
    try:
        wait_until_ready(service.process, service.url, log)
        yield service
    finally:
        service.process.kill()
        service.process.wait()
