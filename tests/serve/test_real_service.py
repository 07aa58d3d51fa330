"""predict_flask.py as a process of its own, with a real network: ready, asked, told to stop."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from hostile_servers import Server, image
from tiny_model import NOTE

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start(log: Path, **settings: str) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CSPINE_")}
    environment |= {f"CSPINE_{name.upper()}": value for name, value in settings.items()}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "predict_flask.py"], cwd=ROOT, env=environment,
            stdout=output, stderr=output,
        )  # fmt: skip


def wait_until_ready(process: subprocess.Popen, url: str, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            if requests.get(f"{url}/health/ready", timeout=2).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def picture_server(neck_png):
    with Server(image(neck_png)) as server:
        yield server


@pytest.fixture(scope="module")
def service(tiny_models, picture_server, tmp_path_factory):
    log, port = tmp_path_factory.mktemp("service") / "log.txt", free_port()
    process = start(
        log, model_dir=str(tiny_models), listen=f"127.0.0.1:{port}", precision="f32",
        fetch_allow=f"127.0.0.1:{picture_server.port}",
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(process, url, log)
        yield url, process, log
    finally:
        process.kill()
        process.wait()


def test_it_answers_by_url_by_upload_and_by_protocol_alike(service, picture_server, neck_png):
    url = service[0]
    link = {"url": f"http://127.0.0.1:{picture_server.port}/a.png"}
    by_url = requests.post(f"{url}/predict?explain=heatmap", json=link, timeout=30).json()
    by_upload = requests.post(f"{url}/predict", files={"file": neck_png}, timeout=30).json()
    assert by_url.pop("heatmap")
    assert by_url == by_upload
    assert by_url["warnings"] == [NOTE]
    assert by_url["region"] == [0, 0, 256, 256]


def test_the_smoke_test_uploads_where_the_url_is_refused(service, neck_png, tmp_path):
    path = tmp_path / "slice.png"
    path.write_bytes(neck_png)
    command = [sys.executable, "predict_test.py", str(path), "--server", service[0]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"prediction"' in done.stdout
    command[2] = "http://127.0.0.1:9/a.png"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "403" in done.stderr


def test_told_to_stop_it_ends_well(service):
    url, process, log = service
    process.send_signal(signal.SIGTERM)
    assert requests.get(f"{url}/health/ready", timeout=5).status_code == 503
    assert process.wait(timeout=30) == 0
    assert '"message": "stopped"' in log.read_text()


def test_without_a_model_it_says_so_in_one_line(tmp_path):
    log = tmp_path / "log.txt"
    assert start(log, model_dir=str(tmp_path)).wait(timeout=60) == 2
    assert log.read_text().startswith("predict_flask.py: ")


def test_a_bad_setting_is_named_in_one_line(tmp_path):
    log = tmp_path / "log.txt"
    assert start(log, streams="many").wait(timeout=60) == 2
    assert log.read_text() == (
        "predict_flask.py: `CSPINE_STREAMS` must be a whole number from 1 to 256. "
        "Received: 'many'\n"
    )
