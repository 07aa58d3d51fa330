"""Slow, silent and greedy clients on real sockets, and the graceful stop."""

import json
import re
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
import requests
from waitress.adjustments import Adjustments
from waitress.channel import ClientDisconnected

from cspine.core.serve_settings import ServeSettings
from cspine.serve.app import create_app
from cspine.serve.waitress_server import connection as connection_module
from cspine.serve.waitress_server import early_refusal, eviction
from cspine.serve.waitress_server.parser import RequestParser
from support.service_fakes import connect, read_all
from support.waiting import wait_for

HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"


@pytest.fixture
def hasty_runner(app, serve_app):
    return serve_app(app, eviction.Deadlines(header_s=0.3, body_s=0.3, answer_s=0.3, idle_s=0.3))


@pytest.fixture
def runner(app, serve_app):
    return serve_app(app)


def read_answer(raw: bytes) -> tuple[int, dict]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD, HEAD + b"Content-Length: 9\r\n\r\nabc"])
def test_a_client_that_stops_is_let_go(hasty_runner, sent):
    with connect(hasty_runner) as connection:
        connection.sendall(sent)
        assert read_all(connection) == b""


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nX: ", HEAD + b"Content-Length: 99\r\n\r\n"])
def test_a_drip_does_not_keep_a_connection_open(hasty_runner, start):
    with connect(hasty_runner) as connection:
        connection.sendall(start)
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 8:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - began < 6


def test_a_client_that_never_reads_is_let_go(hasty_runner):
    with connect(hasty_runner) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wait_for(lambda: hasty_runner.sockets.channels)
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
        wait_for(lambda: not hasty_runner.sockets.channels)
        assert requests.get(f"http://127.0.0.1:{hasty_runner.port}/health/live", timeout=5).ok


def test_a_body_over_the_cap_is_refused_before_it_is_read(predictor, serve_app):
    runner = serve_app(
        create_app(ServeSettings(listen=("127.0.0.1", 0), max_bytes=1024), predictor)
    )
    with connect(runner) as connection:
        connection.sendall(HEAD + b"Content-Length: 99999999\r\n\r\n")
        status, problem = read_answer(read_all(connection))
    assert (status, problem["status"]) == (413, 413)


def test_all_bodies_together_have_a_cap(runner, monkeypatch):
    monkeypatch.setattr(eviction, "MAX_HELD_BYTES", 1000)
    with connect(runner) as connection:
        connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n" + b"x" * 2000)
        answer = read_all(connection)
    assert read_answer(answer)[0] == 503
    assert b"Retry-After: 1" in answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX : y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET http://[a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /aHTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Host: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_broken_http_is_a_problem_document(app, runner, sent, status):
    with connect(runner) as connection:
        connection.sendall(sent)
        raw = read_all(connection)
    answer = read_answer(raw)
    assert answer[0] == answer[1]["status"] == status
    # Counted as every other answer is.
    counted = app.extensions["cspine"].metrics.render().decode()
    assert re.search(rf'cspine_requests_total\{{.*status="{status}"\}} 1\.0', counted)
    # What every other answer has as well.
    head = raw.partition(b"\r\n\r\n")[0].decode().lower()
    assert f"x-request-id: {answer[1]['request_id']}" in head
    assert "x-content-type-options: nosniff" in head


def test_a_refused_client_that_leaves_before_its_answer_is_no_fault(runner, monkeypatch, caplog):
    left = threading.Event()

    def leave(_: object, __: bytes) -> None:
        left.set()
        raise ClientDisconnected

    monkeypatch.setattr(connection_module.DeadlineChannel, "write_soon", leave)
    with connect(runner) as connection, caplog.at_level("INFO", logger="waitress"):
        connection.sendall(b"NONSENSE\r\n\r\n")
        assert left.wait(5)
        wait_for(lambda: any("Client disconnected" in one.message for one in caplog.records))
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


def test_a_body_that_has_just_come_does_not_yield(app, serve_app, predictor, png):
    runner = serve_app(app)
    runner.sockets.places = len(runner.sockets)
    with connect(runner) as upload:
        upload.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(png) + png[:9])
        wait_for(lambda: runner.sockets.held_bytes)
        with connect(runner) as other:
            other.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert other.recv(65536)
            upload.sendall(png[9:])
            assert upload.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD + b"Content-Length: 9\r\n\r\nabc"])
def test_connections_that_only_wait_yield(runner, sent, monkeypatch):
    monkeypatch.setitem(eviction.YIELD_AFTER_S, "body", 0.0)
    runner.sockets.places = 20
    idle = []
    for _ in range(60):
        idle.append(connect(runner))
        idle[-1].sendall(sent)
    try:
        url = f"http://127.0.0.1:{runner.port}/health/live"
        assert all(requests.get(url, timeout=5).ok for _ in range(5))
    finally:
        for connection in idle:
            connection.close()


def test_a_body_that_only_drips_yields(runner, monkeypatch):
    monkeypatch.setitem(eviction.YIELD_AFTER_S, "body", 0.3)
    with connect(runner) as connection:
        connection.sendall(HEAD + b"Content-Length: 999\r\n\r\n")
        for _ in range(10):
            connection.sendall(b"x")
            time.sleep(0.05)
        runner.sockets.places = len(runner.sockets) - 1
        assert read_all(connection) == b""


def test_a_chunked_body_is_an_image(runner, png):
    url = f"http://127.0.0.1:{runner.port}/predict"
    chunks = iter([png[:50], png[50:]])
    response = requests.post(url, data=chunks, headers={"Content-Type": "image/png"}, timeout=5)
    assert response.json()["prediction"] == "fracture"


def test_what_was_accepted_is_answered_before_the_end(app, predictor, serve_app, png):
    runner, answers = serve_app(app), []
    url = f"http://127.0.0.1:{runner.port}"
    headers = {"Content-Type": "image/png"}
    predictor.hold.clear()
    asking = threading.Thread(
        target=lambda: answers.append(
            requests.post(f"{url}/predict", data=png, headers=headers, timeout=20)
        )
    )
    asking.start()
    wait_for(lambda: predictor.calls == 1)
    runner.stop()
    assert requests.get(f"{url}/health/ready", timeout=5).status_code == 503
    assert requests.get(f"{url}/v2/health/ready", timeout=5).status_code == 503
    refused = requests.post(f"{url}/predict", data=png, headers=headers, timeout=5)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    predictor.hold.set()
    asking.join(timeout=20)
    assert answers[0].status_code == 200
    wait_for(lambda: not can_connect(runner.port))


def test_a_full_service_refuses_before_the_application_and_keeps_the_connection(
    app, predictor, serve_app, png
):
    runner = serve_app(app)
    admission = app.extensions["cspine"].inference.admission
    url, headers = f"http://127.0.0.1:{runner.port}", {"Content-Type": "image/png"}
    with requests.Session() as session:
        with admission.place(), admission.place(), admission.place(), admission.place():
            refused = session.post(f"{url}/predict", data=png, headers=headers, timeout=5)
            assert session.get(f"{url}/health/ready", timeout=5).ok
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json()["status"] == 503
        assert "Connection" not in refused.headers
        assert session.post(f"{url}/predict", data=png, headers=headers, timeout=5).ok
        assert 'route="/predict",status="503"} 1.0' in session.get(f"{url}/metrics").text
    assert predictor.calls == 1


def test_predictions_alone_are_refused_early_and_a_listed_origin_may_read_it(
    settings, predictor, serve_app, png
):
    app = create_app(replace(settings, cors_origins=("https://a.example",)), predictor)
    runner, origin = serve_app(app), {"Origin": "https://a.example"}
    url, infer = f"http://127.0.0.1:{runner.port}", "v2/models/cspine/versions/1/infer"
    admission = app.extensions["cspine"].inference.admission
    with admission.place(), admission.place(), admission.place(), admission.place():
        refused = requests.post(f"{url}/{infer}", json={}, headers=origin, timeout=5)
        assert requests.get(f"{url}/predict", timeout=5).status_code == 405
        assert requests.options(f"{url}/predict", headers=origin, timeout=5).ok
    assert (refused.status_code, refused.json()["error"]) == (503, early_refusal.OVERLOADED)
    assert refused.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert refused.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    route = "/v2/models/cspine/versions/<version>/infer"
    # The application's own rule, or its metrics would have a name of nothing.
    assert route in {rule.rule for rule in app.url_map.iter_rules()}
    assert f'route="{route}",status="503"}} 1.0' in requests.get(f"{url}/metrics", timeout=5).text


def test_there_are_connections_for_all_places_and_more(settings, predictor, serve_app):
    runner = serve_app(create_app(replace(settings, max_queue=600), predictor))
    assert runner.sockets.places > 600


def test_refusals_of_one_connection_keep_their_order(app, serve_app, png):
    runner = serve_app(app)
    admission = app.extensions["cspine"].inference.admission
    head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: {}\r\n"
    ask = [f"{head.format(len(png))}X-Request-ID: n{n}\r\n".encode() for n in range(3)]
    ask[2] += b"Connection: close\r\n"
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(admission.place())
        client = stack.enter_context(connect(runner))
        client.sendall(b"".join(one + b"\r\n" + png for one in ask))
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 503 ") == 3
    places = [answers.index(b'"n%d"' % n) for n in range(3)]
    assert places == sorted(places)


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_vanished_client_is_noticed(app, predictor, serve_app, png):
    runner = serve_app(app)
    predictor.hold.clear()
    with connect(runner) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(png) + png)
        wait_for(lambda: predictor.calls == 1)
    wait_for(lambda: not runner.sockets.channels)
    predictor.hold.set()
    wait_for(lambda: app.extensions["cspine"].inference.admission.taken == 0)


def test_a_large_answer_touches_no_disk(predictor, serve_app, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("an answer went to a temporary file")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    app = create_app(ServeSettings(listen=("127.0.0.1", 0)), predictor)
    app.add_url_rule("/large", view_func=lambda: bytes(3 * 1024**2))
    answer = requests.get(f"http://127.0.0.1:{serve_app(app).port}/large", timeout=20)
    assert answer.content == bytes(3 * 1024**2)


def test_metrics_on_a_listener_of_their_own(predictor, serve_app):
    settings = ServeSettings(listen=("127.0.0.1", 0), metrics_listen=("127.0.0.1", 0))
    runner = serve_app(create_app(settings, predictor))
    port = runner.listeners[1].effective_port
    with socket.create_connection(("127.0.0.1", int(port))) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        assert read_answer(read_all(connection))[0] == 400
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    assert "cspine_model_info" in text
    # What comes here is no request to the service.
    assert 'status="400"' not in text


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /health/live HTTP/1.1\r\nHost: a\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\n",
        HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\nxx",
    ],
)
def test_whole_requests_that_expect_to_be_asked_on_are_answered(runner, request_):
    with connect(runner) as connection:
        connection.sendall(request_)
        last = read_all(connection).rpartition(b"HTTP/1.1 ")[2]
    assert last[:3] in (b"200", b"415")


def test_a_clock_that_is_set_back_stops_no_deadline(hasty_runner, monkeypatch):
    past = time.time() - 10**8
    monkeypatch.setattr(time, "time", lambda: past)
    with connect(hasty_runner) as connection:
        connection.sendall(b"GET / HT")
        assert read_all(connection) == b""


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"1\r\nx\r\n" * 40_000,
        b"1" * 20_000,
        b"1;" + b"a" * 20_000,
        b"0\r\n" + b"a: b\r\n" * 5000,
    ],
)
def test_a_chunked_body_that_is_mostly_framing_is_refused(runner, sent):
    with connect(runner) as connection:
        connection.sendall(CHUNKED + sent)
        status, problem = read_answer(read_all(connection))
    assert (status, problem["detail"]) == (400, early_refusal.MALFORMED)


def test_small_chunks_are_a_body_where_content_prevails():
    parser = RequestParser(Adjustments())
    sent = CHUNKED + b"".join(b"8\r\n%b\r\n" % (b"x" * 8) for _ in range(20_000)) + b"0\r\n\r\n"
    while sent:
        sent = sent[parser.received(sent[:4096]) :]
    assert (parser.completed, parser.error, len(parser.body_rcv)) == (True, None, 160_000)


def test_empty_lines_are_skipped_at_once_and_the_request_behind_them_is_answered(runner):
    with connect(runner) as connection:
        connection.sendall(b"\r\n" * 2_000_000)
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_answer(read_all(connection)) == (200, {"status": "live"})


def test_a_body_counts_until_its_request_is_answered(app, predictor, serve_app, png):
    runner = serve_app(app)
    predictor.hold.clear()
    with connect(runner) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(png) + png)
        wait_for(lambda: predictor.calls == 1)
        assert runner.sockets.held_bytes == len(png)
        predictor.hold.set()
        assert connection.recv(9) == b"HTTP/1.1 "
        wait_for(lambda: runner.sockets.held_bytes == 0)
