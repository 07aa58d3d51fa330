"""The fetch: hostile URLs reach no listener, hostile servers meet a deadline, honest ones work."""

import gzip
import socket
import threading
import time
import zlib

import pytest

from cspine.core.errors import (
    FetchError,
    FetchTimeoutError,
    ImageTooLargeError,
    UrlNotAllowedError,
)
from cspine.fetch import fetcher as fetch_module
from cspine.fetch.fetcher import Fetcher
from support.hostile_servers import OK, Server, drip, image, make_certificate, redirect, sends
from support.hostile_urls import HOSTILE, NAMES
from support.service_fakes import make_png

LOOPBACK = ["127.0.0.1"]


@pytest.fixture
def png() -> bytes:
    return make_png()


def resolve(host: str, port: int) -> list[str]:
    """A resolver of the test's own: `*.local` is loopback, literals are themselves."""
    if host.endswith(".local"):
        return LOOPBACK
    if host in NAMES:
        return NAMES[host]
    if host == "example.org":
        return ["93.184.215.14"]
    return [host]


def make_fetcher(*servers: Server, host: str = "good.local", **options) -> Fetcher:
    allow = tuple(f"{host}:{server.port}" for server in servers)
    return Fetcher(allow=allow, **{"resolve": resolve, "timeout_s": 30.0, **options})


def test_there_are_enough_hostile_urls():
    assert len(HOSTILE) >= 250


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_url_is_refused_before_anything_is_dialled(url: str, monkeypatch):
    def dial(*_, **__):
        raise AssertionError("dialled")

    monkeypatch.setattr(fetch_module.socket, "create_connection", dial)
    with pytest.raises(FetchError) as caught:
        Fetcher(resolve=resolve, timeout_s=1.0).fetch(url)
    assert "127.0.0" not in str(caught.value)
    assert "169.254" not in str(caught.value)


def test_a_name_is_resolved_once_and_that_address_is_dialled(monkeypatch):
    answers, dialled = iter([["93.184.215.14"], ["127.0.0.1"]]), []

    def dial(address, timeout):
        dialled.append(address)
        raise OSError

    monkeypatch.setattr(fetch_module.socket, "create_connection", dial)
    with pytest.raises(FetchError, match="could not be reached"):
        Fetcher(resolve=lambda *_: next(answers)).fetch("http://rebinding.test/")
    assert dialled == [("93.184.215.14", 80)]


def test_an_honest_answer_arrives(png):
    with Server(image(png)) as server:
        assert make_fetcher(server).fetch(f"http://good.local:{server.port}/a.png?b=1") == png
    head = server.heads[0]
    assert head.startswith("GET /a.png?b=1 HTTP/1.1\r\n")
    assert f"Host: good.local:{server.port}" in head
    assert "Cookie" not in head


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(status: int, png):
    with Server(image(png)) as last, Server(redirect("/x", status)) as first:
        first.answer = redirect(f"http://good.local:{last.port}/x", status)
        assert make_fetcher(first, last).fetch(f"http://good.local:{first.port}/") == png


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{}/",
        "http://localhost:{}/",
        "http://2130706433:{}/",
        "//127.0.0.1:{}/",
        "http://[::ffff:127.0.0.1]:{}/",
        "http://good.local@127.0.0.1:{}/",
        "http://other.local:{}/",
    ],
)
def test_a_redirect_into_loopback_is_refused(location: str, png):
    with Server(image(png)) as inner, Server(redirect(location.format(inner.port))) as outer:
        with pytest.raises(UrlNotAllowedError):
            make_fetcher(outer).fetch(f"http://good.local:{outer.port}/")
        assert inner.visits == 0


def test_redirects_end_after_three():
    with Server(redirect("/again")) as server:
        with pytest.raises(FetchError, match="at most 3"):
            make_fetcher(server).fetch(f"http://good.local:{server.port}/")
        assert server.visits == 4


DRIPS = (
    b"",
    b"HTTP/1.1 200 OK\r\n",
    OK + b"X-Header: ",
    OK + b"Content-Length: 100000\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n",
    OK + b"\r\n",
)


@pytest.mark.parametrize("head", DRIPS)
def test_a_drip_does_not_stretch_the_deadline(head: bytes):
    with drip(head) as server:
        start = time.monotonic()
        with pytest.raises(FetchTimeoutError):
            make_fetcher(server, timeout_s=0.5).fetch(f"http://good.local:{server.port}/")
        assert time.monotonic() - start < 30


def test_interim_answers_do_not_stretch_the_deadline():
    with drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01) as server, pytest.raises(FetchError):
        make_fetcher(server, timeout_s=0.5).fetch(f"http://good.local:{server.port}/")


def test_a_silent_listener_and_a_slow_resolver_meet_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        fetcher = Fetcher(allow=(f"good.local:{port}",), resolve=resolve, timeout_s=0.3)
        with pytest.raises(FetchTimeoutError):
            fetcher.fetch(f"http://good.local:{port}/")
    going = threading.Event()
    slow = Fetcher(resolve=lambda *_: going.wait(30) and LOOPBACK, timeout_s=1.0)
    with pytest.raises(FetchTimeoutError, match="did not resolve in time"):
        slow.fetch("http://slow.test/")
    going.set()


def test_a_name_that_nobody_waits_for_any_more_is_not_resolved(monkeypatch):
    monkeypatch.setattr(fetch_module, "_RESOLVERS", 1)
    going, asked = threading.Event(), []

    def resolve_slowly(host: str, port: int) -> list[str]:
        asked.append(host)
        going.wait(30)
        return LOOPBACK

    fetcher = Fetcher(resolve=resolve_slowly, timeout_s=1.0)
    for name in ("a.test", "b.test", "c.test"):
        with pytest.raises(FetchTimeoutError, match="did not resolve in time"):
            fetcher.fetch(f"http://{name}/")
    going.set()
    fetcher._resolvers.shutdown()
    assert asked == ["a.test"]


def test_an_endless_body_meets_the_cap():
    with drip(OK + b"\r\n", b"x" * 65536, 0.0) as server, pytest.raises(ImageTooLargeError):
        make_fetcher(server, max_bytes=10**6).fetch(f"http://good.local:{server.port}/")


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_bomb_meets_the_cap_as_it_is_decoded(rounds: int):
    body = b"\0" * 50_000_000
    for _ in range(rounds):
        body = gzip.compress(body)
    encoding = ", ".join(["gzip"] * rounds).encode()
    head = OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (encoding, len(body))
    with Server(sends(head, body)) as server, pytest.raises(ImageTooLargeError):
        make_fetcher(server, max_bytes=10**6).fetch(f"http://good.local:{server.port}/")


def test_an_encoded_body_is_decoded(png):
    body = zlib.compress(png)
    head = OK + b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(body)
    with Server(sends(head, body)) as server:
        assert make_fetcher(server).fetch(f"http://good.local:{server.port}/") == png


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc",
        b"\0" * 100,
        b"HTTP/9.9 abc\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        OK[:12],
        OK + b"Content-Length: 10\r\n\r\nshort",
        OK + b"Content-Length: -1\r\n\r\nbody"[:20],
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        OK + b"a: b\r\n" * 1000 + b"\r\n",
        OK + b"Content-Encoding: gzip\r\n\r\nnot gzip",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nsecret",
        b"HTTP/1.1 500 Oh\r\n\r\nsecret",
        b"HTTP/1.1 204 None\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
    ],
)
def test_a_broken_answer_is_a_fetch_error_that_echoes_nothing(answer: bytes):
    with Server(sends(answer)) as server, pytest.raises(FetchError) as caught:
        make_fetcher(server).fetch(f"http://good.local:{server.port}/")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_tls_with_the_right_name_works_and_sends_it(tmp_path, png):
    server_tls, client_tls = make_certificate(tmp_path, "good.local")
    with Server(image(png), server_tls) as server:
        url = f"https://good.local:{server.port}/"
        assert make_fetcher(server, tls=client_tls).fetch(url) == png


def test_tls_with_a_wrong_name_or_an_unknown_issuer_is_refused(tmp_path, png):
    server_tls, client_tls = make_certificate(tmp_path, "other.local")
    with Server(image(png), server_tls) as server:
        url = f"https://good.local:{server.port}/"
        with pytest.raises(FetchError, match="certificate"):
            make_fetcher(server, tls=client_tls).fetch(url)
        with pytest.raises(FetchError, match="certificate"):
            make_fetcher(server).fetch(url)
    assert server.heads == []


def test_https_never_becomes_http(tmp_path, png):
    server_tls, client_tls = make_certificate(tmp_path, "good.local")
    with Server(image(png)) as plain:
        leave = redirect(f"http://good.local:{plain.port}/")
        with Server(leave, server_tls) as server, pytest.raises(UrlNotAllowedError, match="http"):
            make_fetcher(server, plain, tls=client_tls).fetch(f"https://good.local:{server.port}/")
        assert plain.visits == 0


def test_a_proxy_in_the_environment_is_ignored(png, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Server(image(png)) as server:
        assert make_fetcher(server).fetch(f"http://good.local:{server.port}/") == png


def test_fetching_can_be_switched_off():
    with pytest.raises(UrlNotAllowedError, match="CSPINE_FETCH=off"):
        Fetcher(enabled=False).fetch("http://example.org/")


def test_a_name_that_does_not_resolve_says_so():
    def fail(*_):
        raise socket.gaierror

    with pytest.raises(FetchError, match="must resolve"):
        Fetcher(resolve=fail).fetch("http://nowhere.test/")


def test_an_address_where_nothing_answers_leaves_time_for_the_next(monkeypatch):
    waits = []

    def dial(address, timeout):
        waits.append((address[0], timeout))
        raise TimeoutError

    monkeypatch.setattr(fetch_module.socket, "create_connection", dial)
    addresses = ["2606:2800:21f::1", "93.184.215.14"]
    with pytest.raises(FetchError, match="could not be reached"):
        Fetcher(resolve=lambda *_: addresses, timeout_s=5.0).fetch("http://example.org/a.png")
    assert [address for address, _ in waits] == addresses
    assert all(timeout <= 1.5 for _, timeout in waits)
