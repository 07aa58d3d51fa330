"""Clients that send what none should, or too much at once, and what the loop survives."""

import socket

import pytest
from service_fakes import connect, read_all

GET = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def runner(app, serve_app):
    return serve_app(app)


def test_an_urgent_byte_ends_its_connection(runner):
    with connect(runner) as connection:
        connection.send(b"x", socket.MSG_OOB)
        assert read_all(connection) == b""
