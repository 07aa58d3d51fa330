"""Clients that send what none should, or too much at once, and what the loop survives."""

import socket

import pytest
from service_fakes import connect, read_all
from waitress import wasyncore

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


def test_a_thread_that_ends_within_a_request_ends_its_connection(app, serve_app):
    app.add_url_rule("/exit", view_func=lambda: fail([SystemExit()]))
    runner = serve_app(app)
    with connect(runner) as connection:
        connection.sendall(GET.replace(b"/health/live", b"/exit"))
        assert read_all(connection) == b""
    assert not runner._servers[0].is_busy
