"""The smoke test: post one image to /predict, print the answer, exit 0, or 1 without one.

With no argument it serves a synthetic slice on `--listen` and posts that URL; where the service may
not fetch it, it says which setting to change and uploads the slice. Not a medical device.
"""

import argparse
import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

TIMEOUT_S = 60  # well above the service's own deadline: it is to say itself that it is late
SAMPLE = Path(__file__).parent / "cspine" / "predict" / "sample_slice.png"


class NoAnswerError(Exception):
    """The service gave no prediction; the text says what it said."""


@contextmanager
def serve_slice(png: bytes, listen: str) -> Iterator[str]:
    """Serve one picture at HOST:PORT while the block runs, and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(png)))
            self.end_headers()
            self.wfile.write(png)

        log_message = staticmethod(lambda *_: None)  # the answer is what matters

    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        kind = type("Server", (ThreadingHTTPServer,), {"address_family": family})
        server = kind((host.strip("[]"), int(port)), Handler)
    except (OSError, ValueError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not HOST:PORT"
        raise NoAnswerError(
            f"the slice needs an address of its own. Received: {listen} ({reason})"
        ) from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Every address is one to listen on, not one to fetch from.
    shown = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    try:
        yield f"http://{shown}:{server.server_port}/slice.png"
    finally:
        server.shutdown()
        server.server_close()


def post(server: str, **body: Any) -> requests.Response:
    """Post to /predict, without a proxy where the service is on this machine."""
    with requests.Session() as session:
        session.trust_env = urlsplit(server).hostname not in ("127.0.0.1", "localhost", "::1")
        return session.post(f"{server}/predict", timeout=TIMEOUT_S, **body)


def read_answer(response: requests.Response) -> dict[str, Any]:
    """Return the prediction in a response, or raise NoAnswerError with what it says instead."""
    try:
        body = dict(response.json())
    except (ValueError, TypeError):
        raise NoAnswerError(f"{response.status_code}, and no JSON object") from None
    if response.status_code != 200 or "prediction" not in body:
        raise NoAnswerError(f"{response.status_code} {body.get('detail', body)}")
    return body


def ask(given: argparse.Namespace) -> requests.Response:
    """Post what the command line names: a URL, a file, or the sample by its URL, else as a file."""
    if given.image and given.image.lower().startswith(("http://", "https://")):
        return post(given.server, json={"url": given.image})
    data = Path(given.image or SAMPLE).read_bytes()
    if not given.image:
        with serve_slice(data, given.listen) as url:
            print(f"POST {given.server}/predict  {url}")
            response = post(given.server, json={"url": url})
        # 403: the service will not fetch from there, which says nothing of the slice.
        if response.status_code != 403 or given.require_url:
            return response
        place = url.split("/")[2]
        print(
            f"The service does not fetch from {place}. To allow it, start it with "
            f"CSPINE_FETCH_ALLOW={place}, without CSPINE_FETCH=off. Uploading it."
        )
    return post(given.server, files={"file": data})


def main() -> int:
    """Ask, print the answer, and return the exit code."""
    parser = argparse.ArgumentParser(description="Post one image to a running cspine service.")
    parser.add_argument("image", nargs="?", help="a URL or a file; by default a synthetic slice")
    parser.add_argument("--server", default="http://127.0.0.1:9696", help="default: %(default)s")
    parser.add_argument("--listen", default="127.0.0.1:9697", help="HOST:PORT; default %(default)s")
    parser.add_argument("--require-url", action="store_true", help="exit 1 where it is refused")
    given = parser.parse_args()
    scheme = "" if "://" in given.server else "http://"
    given.server = f"{scheme}{given.server}".rstrip("/")
    try:
        answer = read_answer(ask(given))
    except (NoAnswerError, OSError, ValueError) as error:
        told = str(error)
        if isinstance(error, requests.ConnectionError):
            told = f"nothing serves at {given.server}. Start `python predict_flask.py`"
        print(f"predict_test.py: no answer: {told}", file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2))
    print(f"prediction: {answer['prediction']}, probability of a fracture: {answer['probability']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
