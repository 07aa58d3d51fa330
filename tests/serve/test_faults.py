"""Faults while serving, within one process: clients that vanish, reloads and lost folders."""

import shutil
import socket
import threading

import requests

from cspine.core.serve_settings import ServeSettings
from cspine.serve import hot_reload as models_module
from cspine.serve.app import create_app
from cspine.serve.hot_reload import ModelManager
from cspine.serve.model_loader import open_models, stamp_card
from cspine.serve.telemetry import Metrics
from support.service_fakes import FakePredictor, make_png
from support.waiting import wait_for

SETTINGS = ServeSettings(listen=("127.0.0.1", 0), max_queue=16, cache=False)


def post(port: int, data: bytes) -> requests.Response:
    headers = {"Content-Type": "image/png"}
    return requests.post(f"http://127.0.0.1:{port}/predict", data=data, headers=headers, timeout=20)


def test_reloads_fail_no_request_and_mix_no_models(serve_app):
    versions = iter(f"{n:012x}" for n in range(1, 10_000))
    holder = ModelManager(FakePredictor("0" * 12), lambda _: FakePredictor(next(versions)))
    runner = serve_app(create_app(SETTINGS, holder))
    ending, answers = threading.Event(), []

    def ask():
        while not ending.is_set():
            answers.append(post(runner.port, make_png(200)))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for _ in range(50):
        holder.reload()
        ending.wait(0.01)
    ending.set()
    for asker in askers:
        asker.join()
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["model"]["version"] for answer in answers}) > 5


def test_a_lost_model_folder_leaves_the_model_that_serves(
    tiny_models, tmp_path, neck_png, monkeypatch, serve_app
):
    monkeypatch.setattr(models_module, "WATCH_S", 0.01)
    folder = shutil.copytree(tiny_models, tmp_path / "models")
    holder = open_models(ServeSettings(model_dir=str(folder), precision="f32"), Metrics())
    runner = serve_app(create_app(SETTINGS, holder))
    before = post(runner.port, neck_png).json()
    shutil.rmtree(folder)
    assert stamp_card(folder) is None
    assert post(runner.port, neck_png).json() == before
    folder.mkdir()
    (folder / "best.json").write_text("{")
    text = "cspine_reloads_total"
    url = f"http://127.0.0.1:{runner.port}/metrics"
    wait_for(lambda: f'{text}{{result="refused"}}' in requests.get(url, timeout=5).text)
    assert post(runner.port, neck_png).json() == before


def test_clients_that_vanish_leave_nothing_behind(serve_app):
    app = create_app(SETTINGS, FakePredictor())
    runner, png = serve_app(app), make_png()
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(png) + png
    for cut in range(1, 200):
        with socket.create_connection(("127.0.0.1", runner.port)) as connection:
            connection.sendall(whole[: cut * len(whole) // 199])
    assert post(runner.port, png).status_code == 200
    admission = app.extensions["cspine"].inference.admission
    # The connection of the answer may be the last one, or one that the loop has not yet closed.
    wait_for(lambda: len(runner.sockets.channels) <= 1 and not runner.sockets.held_bytes)
    assert admission.taken == 0
