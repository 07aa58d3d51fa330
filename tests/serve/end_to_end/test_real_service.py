"""predict_flask.py as a process of its own, with a real network: ready, asked, told to stop."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from support.hostile_samples import CT, HOSTILE
from support.hostile_servers import OK, Server, image, sends
from support.real_service import ROOT, end_of, running, start
from support.tiny_model import NOTE
from support.waiting import wait_for


@pytest.fixture(scope="module")
def picture_server(neck_png):
    with Server(image(neck_png)) as server:
        yield server


@pytest.fixture(scope="module")
def service(tiny_models, picture_server, tmp_path_factory):
    log = tmp_path_factory.mktemp("service") / "log.txt"
    allow = f"127.0.0.1:{picture_server.port}"
    with running(log, model_dir=str(tiny_models), precision="f32", fetch_allow=allow) as service:
        yield service


def test_it_answers_by_url_by_upload_and_by_protocol_alike(service, picture_server, neck_png):
    url = service.url
    link = {"url": f"http://127.0.0.1:{picture_server.port}/a.png"}
    by_url = requests.post(f"{url}/predict?explain=heatmap", json=link, timeout=30).json()
    by_upload = requests.post(f"{url}/predict", files={"file": neck_png}, timeout=30).json()
    assert by_url.pop("heatmap")
    assert by_url == by_upload
    assert by_url["warnings"] == [NOTE]
    assert by_url["region"] == [0, 0, 256, 256]


def run_smoke_test(*arguments):
    command = [sys.executable, "predict_test.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_smoke_test_uploads_its_own_slice_where_its_url_is_refused(service):
    words = ["--server", service.url, "--listen", "127.0.0.1:0"]
    done = run_smoke_test(*words)
    assert done.returncode == 0, done.stderr
    assert "start the service with CSPINE_FETCH_ALLOW=127.0.0.1:" in done.stdout
    assert run_smoke_test(*words, "--require-url").returncode == 1
    done = run_smoke_test("--server", "127.0.0.1:1")
    assert done.returncode == 1
    assert "no service at http://127.0.0.1:1." in done.stderr


def test_the_smoke_test_posts_what_it_is_given(service, neck_png, tmp_path):
    path = tmp_path / "slice.png"
    path.write_bytes(neck_png)
    done = run_smoke_test(str(path), "--server", service.url)
    assert done.returncode == 0, done.stderr
    assert '"prediction"' in done.stdout
    done = run_smoke_test("http://127.0.0.1:9/a.png", "--server", service.url)
    assert done.returncode == 1
    assert "403" in done.stderr


def test_no_patient_is_named_in_log_answer_or_metrics(service):
    files = [data for data in (CT, *HOSTILE.values()) if b"Planted^Name" in data]
    assert len(files) >= 20
    answers = [service.post(data).text for data in files]
    told = [*answers, requests.get(f"{service.url}/metrics", timeout=20).text]
    assert not any("planted" in text.lower() for text in (*told, service.log.read_text()))


def test_no_url_is_logged_whatever_its_server_answers(service, picture_server, neck_png):
    honest = picture_server.answer
    link = {"url": f"http://127.0.0.1:{picture_server.port}/a.png?signature=planted"}
    for odd in (
        b"no colon\r\n",
        b": no name\r\n",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    ):
        picture_server.answer = sends(OK, odd, b"\r\n", neck_png)
        requests.post(f"{service.url}/predict", json=link, timeout=30)
    picture_server.answer = honest
    log = service.log.read_text()
    assert "planted" not in log
    assert "no colon" not in log


def test_told_to_stop_it_ends_well(service):
    service.process.send_signal(signal.SIGTERM)
    assert not service.is_ready()
    assert service.process.wait(timeout=30) == 0
    assert '"message": "stopped"' in service.log.read_text()


def test_told_to_stop_before_it_serves_it_ends_well(tiny_models, tmp_path):
    # A lone `.h5`, of which the network is still to be made.
    (tmp_path / "best.h5").write_bytes((tiny_models / "best.h5").read_bytes())
    process = start(tmp_path / "log.txt", model_dir=str(tmp_path), listen="127.0.0.1:0")
    state = Path(f"/proc/{process.pid}/status")

    def handles_sigterm() -> bool:
        caught = next(line for line in state.read_text().splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    try:
        wait_for(handles_sigterm)
        process.send_signal(signal.SIGTERM)
    finally:
        status = end_of(process)
    assert status == 0
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_another_wsgi_server_finds_the_application(tiny_models, tmp_path):
    code = (
        "from predict_flask import app\n"
        "assert app.test_client().get('/health/ready').status_code == 200"
    )
    log = tmp_path / "log.txt"
    assert end_of(start(log, "-c", code, model_dir=str(tiny_models))) == 0, log.read_text()


def test_without_a_model_it_says_so_in_one_line(tmp_path):
    log = tmp_path / "log.txt"
    assert end_of(start(log, model_dir=str(tmp_path))) == 2
    assert log.read_text().startswith("predict_flask.py: ")


def test_a_bad_setting_is_named_in_one_line(tmp_path):
    log = tmp_path / "log.txt"
    assert end_of(start(log, streams="many")) == 2
    assert log.read_text() == (
        "predict_flask.py: `CSPINE_STREAMS` must be a whole number from 1 to 256. "
        "Received: 'many'\n"
    )


def test_a_signed_model_is_served_and_a_changed_card_is_not(tiny_models, neck_png, tmp_path):
    folder, key = shutil.copytree(tiny_models, tmp_path / "models"), tmp_path / "key.pem"
    public = tmp_path / "key.pub.pem"
    make = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)]
    subprocess.run(make, check=True, capture_output=True)
    show = ["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)]
    subprocess.run(show, check=True, capture_output=True)
    sign = [sys.executable, "-m", "cspine", "sign", str(folder), "--key", str(key)]
    subprocess.run(sign, cwd=ROOT, check=True, capture_output=True)
    settings = {"model_dir": str(folder), "precision": "f32", "card_key": str(public)}
    with running(tmp_path / "log.txt", **settings) as service:
        assert service.post(neck_png).ok
        for card in folder.rglob("best.json"):
            card.write_text(card.read_text().replace(NOTE, "Another note."))
        wait_for(lambda: "signed with the private key" in service.log.read_text())
        assert service.post(neck_png).json()["warnings"] == [NOTE]
    log = tmp_path / "second.txt"
    assert end_of(start(log, **settings)) == 2
    assert "signed with the private key" in log.read_text()
