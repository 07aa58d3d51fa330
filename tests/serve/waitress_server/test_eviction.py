"""Clients that send what none should, or too much at once, and what the loop survives."""

import errno
import socket
import threading
import time
from contextlib import ExitStack

import pytest
import requests
from waitress import wasyncore

from cspine.core.serve_settings import ServeSettings
from cspine.serve.app import create_app
from cspine.serve.waitress_server import connection as connection_module
from cspine.serve.waitress_server import eviction, server
from support.service_fakes import connect, read_all
from support.waiting import wait_for

POST = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


def fail(errors: list[BaseException]) -> None:
    """Raise the next of these."""
    raise errors.pop()


@pytest.fixture
def runner(app, serve_app):
    return serve_app(app)


def test_an_urgent_byte_ends_its_connection(runner):
    with connect(runner) as connection:
        connection.send(b"x", socket.MSG_OOB)
        assert read_all(connection) == b""


def test_an_error_while_a_connection_is_taken_does_not_end_the_listener(runner, monkeypatch):
    accept, errors = wasyncore.dispatcher.accept, [MemoryError()]
    monkeypatch.setattr(
        wasyncore.dispatcher, "accept", lambda one: fail(errors) if errors else accept(one)
    )
    with connect(runner) as connection:
        connection.sendall(GET)
        assert connection.recv(99).startswith(b"HTTP/1.1 200")
    assert not errors


def test_the_loop_pauses_while_the_system_has_no_connection_to_give(runner, monkeypatch, caplog):
    accept, calls, ended = wasyncore.dispatcher.accept, [], threading.Event()

    def refuse(listener):
        calls.append(OSError(errno.ENFILE, "Too many open files in system"))
        return accept(listener) if ended.is_set() else fail(calls[-1:])

    monkeypatch.setattr(wasyncore.dispatcher, "accept", refuse)
    with connect(runner) as connection:
        wait_for(lambda: len(calls) == 2)
        assert [one.message.partition(":")[0] for one in caplog.records] == [
            "no connection can be accepted"
        ] * 2
        ended.set()
        connection.sendall(GET)
        assert connection.recv(99).startswith(b"HTTP/1.1 200")


@pytest.fixture
def two_listeners(predictor, serve_app):
    settings = ServeSettings(listen=("127.0.0.1", 0), metrics_listen=("127.0.0.1", 0))
    return serve_app(create_app(settings, predictor))


def test_connections_yield_whichever_listener_they_came_by(two_listeners):
    two_listeners.sockets.places = 45
    ports = [int(one.effective_port) for one in two_listeners.listeners]
    with ExitStack() as stack:
        for port in ports * 50:
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        for port in ports:
            assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).status_code in (200, 404)


def test_bodies_count_whichever_listener_they_came_by(two_listeners):
    _, metrics = two_listeners.listeners
    with socket.create_connection(("127.0.0.1", int(metrics.effective_port))) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        wait_for(lambda: two_listeners.sockets.held_bytes == 3)


def test_where_bodies_are_too_many_the_slowest_is_refused(runner, png, monkeypatch):
    monkeypatch.setattr(eviction, "MAX_HELD_BYTES", 2 * len(png))
    with connect(runner) as silent:
        silent.sendall(POST % 9999 + bytes(2 * len(png)))
        wait_for(lambda: runner.sockets.held_bytes)
        time.sleep(0.3)
        with connect(runner) as other:
            other.sendall(POST % len(png) + png)
            assert other.recv(99).startswith(b"HTTP/1.1 200")
        assert read_all(silent).startswith(b"HTTP/1.1 503")


def test_of_requests_sent_at_once_the_first_few_are_answered(runner):
    with connect(runner) as connection:
        connection.sendall(GET * 1000)
        answers = read_all(connection).split(b"HTTP/1.1 200 OK")[1:]
    # Some may have been answered before the rest was counted.
    assert connection_module.MAX_QUEUED <= len(answers) < 100
    closes = [b"Connection: close" in one for one in answers]
    assert closes.pop() and not any(closes)


def test_work_that_hangs_ends_its_connection(serve_app, predictor, monkeypatch):
    monkeypatch.setattr(server, "WORK_MARGIN_S", 0.3)
    app = create_app(ServeSettings(listen=("127.0.0.1", 0), deadline_s=0.1), predictor)
    ending = threading.Event()
    app.add_url_rule("/hang", view_func=lambda: {"ended": ending.wait(60)})
    with connect(serve_app(app)) as connection:
        connection.sendall(GET.replace(b"/health/live", b"/hang"))
        try:
            assert read_all(connection) == b""
        finally:
            ending.set()


def test_an_answer_that_nobody_reads_yields(app, serve_app, monkeypatch):
    monkeypatch.setattr(eviction, "YIELD_AFTER_S", dict.fromkeys(eviction.YIELD_AFTER_S, 0.2))
    app.add_url_rule("/large", view_func=lambda: bytes(2**24))
    runner = serve_app(app)
    runner.sockets.places = len(runner.sockets)
    with connect(runner) as unread:
        unread.sendall(GET.replace(b"/health/live", b"/large"))
        wait_for(lambda: [one.current_part() for one in runner.sockets.channels] == ["answer"])
        time.sleep(0.5)
        with connect(runner) as other:
            other.sendall(GET)
            assert other.recv(99).startswith(b"HTTP/1.1 200")
        assert len(read_all(unread)) < 2**24


def test_connections_take_at_most_half_of_the_files(app, serve_app, monkeypatch):
    monkeypatch.setattr(server, "raise_file_limit", lambda: 20)
    runner = serve_app(app)
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(runner))
        url = f"http://127.0.0.1:{runner.port}/health/live"
        assert requests.get(url, timeout=10).ok
        wait_for(lambda: len(runner.sockets) <= 10)


def test_the_service_may_open_as_many_files_as_it_needs(app, serve_app):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        serve_app(app)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(4096, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
