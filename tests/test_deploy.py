"""`deploy/nginx.conf` in front of the service: what nginx ends, and what it passes on."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from cspine.core.serve_settings import ServeSettings
from cspine.serve.schemas.requests import max_body_bytes
from predict_test import SAMPLE
from support.real_service import free_port, running
from support.service_fakes import read_all
from support.waiting import wait_for

CONF = Path(__file__).parents[1] / "deploy" / "nginx.conf"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
MAX_BYTES = max_body_bytes(ServeSettings())
FORGED = {
    "X-Forwarded-For": "10.9.8.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X-Real-IP": "10.9.8.7",
    "Forwarded": "for=10.9.8.7",
}

pytestmark = pytest.mark.skipif(
    NGINX is None and os.environ.get("CI") != "true", reason="the test of the proxy needs nginx"
)


def render(folder: Path, port: int, upstream: int) -> str:
    """The configuration with its own ports, paths and short time limits."""
    text = CONF.read_text()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    for old, new in {
        "user www-data;\n": "",
        "listen 80;": f"listen 127.0.0.1:{port};",
        "server 127.0.0.1:9696;": f"server 127.0.0.1:{upstream};",
        "/run/nginx.pid": f"{folder}/nginx.pid",
        "/var/log/nginx": str(folder),
        "header_timeout 10s": "header_timeout 1s",
        "body_timeout 10s": "body_timeout 1s",
        "\nhttp {\n": f"\nhttp {{\n{paths}",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """Returns a function that starts nginx before a port and gives its own port."""
    started = []

    def start(upstream: int, base_path: str = "") -> int:
        assert NGINX, "nginx must be installed where CI=true"
        folder, port = tmp_path_factory.mktemp("nginx"), free_port()
        conf = folder / "nginx.conf"
        text = render(folder, port, upstream)
        if base_path:
            text = text.replace("location / {", f"location {base_path}/ {{")
            text = text.replace("proxy_pass http://cspine;", "proxy_pass http://cspine/;")
        conf.write_text(text)
        command = [NGINX, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(conf)]
        started.append(subprocess.Popen([*command, "-g", "daemon off;"]))
        wait_for(lambda: answers(port), explain=lambda: (folder / "error.log").read_text())
        return port

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=20)


def answers(port: int) -> bool:
    try:
        return bool(requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).status_code)
    except requests.ConnectionError:
        return False


class Echo(BaseHTTPRequestHandler):
    """Answers with the headers and the length of the body that came, and counts connections."""

    protocol_version = "HTTP/1.1"
    connections = 0
    asked = 0

    def setup(self):
        Echo.connections += 1
        super().setup()

    def do_POST(self):
        Echo.asked += 1
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        answer = json.dumps({"headers": dict(self.headers), "bytes": len(body)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self):
        self.do_POST()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def echo(proxy):
    """The port of nginx before a server that echoes."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield proxy(server.server_port)
        server.shutdown()
        thread.join(timeout=10)


def send(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What comes until the connection ends; the pieces are sent with pauses between them."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:  # ended in between
                break
            time.sleep(pause_s)
        return read_all(connection)


HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"


def test_a_prediction_and_no_metrics_come_through(proxy, tiny_models, neck_png, tmp_path):
    with running(tmp_path / "log.txt", model_dir=str(tiny_models), precision="f32") as service:
        port = proxy(service.port)
        asked = requests.post(
            f"http://127.0.0.1:{port}/predict", files={"file": neck_png}, timeout=60
        )
        assert (asked.status_code, asked.json()) == (200, service.post(neck_png).json())
        for path in ("/metrics", "//metrics", "/%6detrics", "/v2/../metrics", "/metrics/"):
            assert send(port, f"GET {path} HTTP/1.0\r\n\r\n".encode())[9:12] == b"404"


def test_a_slow_header_is_ended_and_does_not_reach_the_service(echo):
    before = Echo.asked
    # One byte at a time: the limit is for the whole header.
    sent = [b"GET / HTTP/1.1\r\nX: ", *[b"x"] * 30]
    began = time.monotonic()
    assert send(echo, *sent, pause_s=0.1)[9:12] in (b"", b"408")
    assert time.monotonic() - began < 8
    assert Echo.asked == before


def test_a_slow_body_is_ended_and_does_not_reach_the_service(echo):
    before = Echo.asked
    assert send(echo, HEAD + b"Content-Length: 9\r\n\r\nabc")[9:12] in (b"", b"408")
    assert Echo.asked == before


def test_a_large_body_is_refused_before_it_is_sent(echo):
    raw = send(echo, HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_BYTES + 1))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["status"] == 413


def test_the_largest_body_comes_through_and_touches_no_disk(echo, tmp_path_factory):
    answer = requests.post(f"http://127.0.0.1:{echo}/predict", data=bytes(MAX_BYTES), timeout=60)
    assert answer.json()["bytes"] == MAX_BYTES
    folders = tmp_path_factory.getbasetemp().glob("nginx*")
    assert not any("temporary file" in (one / "error.log").read_text() for one in folders)


def test_what_a_client_says_of_its_address_is_not_passed_on(echo):
    answer = requests.post(f"http://127.0.0.1:{echo}/a", data=b"x", headers=FORGED, timeout=20)
    headers = answer.json()["headers"]
    assert headers["X-Forwarded-For"] == headers["X-Real-IP"] == "127.0.0.1"
    assert (headers["X-Forwarded-Proto"], headers["X-Forwarded-Host"]) == ("http", "127.0.0.1")
    assert headers["X-Forwarded-Port"] == str(echo)
    assert "Forwarded" not in headers


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Host: b\r\n",
    ],
)
def test_a_request_that_could_be_read_in_two_ways_does_not_reach_the_service(echo, framing):
    before = Echo.asked
    assert send(echo, HEAD + framing + b"\r\n0\r\n\r\n")[9:12] in (b"400", b"501")
    assert Echo.asked == before


def test_connections_to_the_service_are_kept(echo):
    before = Echo.connections
    for _ in range(20):
        requests.get(f"http://127.0.0.1:{echo}/", timeout=20)
    assert Echo.connections - before <= 2


def test_the_page_works_under_a_path_and_stays_inside(proxy, tiny_models, tmp_path):
    from playwright.sync_api import sync_playwright

    settings = {"model_dir": str(tiny_models), "precision": "f32", "base_path": "/cspine"}
    with (
        running(tmp_path / "log.txt", **settings) as service,
        sync_playwright() as playwright,
    ):
        root = f"http://127.0.0.1:{proxy(service.port, '/cspine')}"
        (server,) = requests.get(f"{root}/cspine/openapi.json", timeout=10).json()["servers"]
        assert server["url"] == "/cspine"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{root}/cspine/")
        file = {"name": "a.png", "mimeType": "image/png", "buffer": SAMPLE.read_bytes()}
        page.set_input_files("#file", file)
        page.wait_for_selector("#result:not([hidden])")
        hrefs = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
        browser.close()
    # Pictures of answers are `blob:` and `data:` URLs, which nothing is asked for.
    visited = [url for url in asked if url.startswith("http")]
    assert any(url.endswith("/predict?explain=heatmap,image") for url in visited)
    assert len(visited) >= 5
    assert all(url.startswith(f"{root}/cspine/") for url in (*visited, *hrefs))
