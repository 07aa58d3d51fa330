"""The smoke test: posts one image to /predict, prints the answer, exits 0, or 1 without one.

`python predict_test.py [URL|FILE]`. With no argument it serves a synthetic slice of its own on
`--listen` and posts that URL. Where the service may not fetch it, it says which setting to change
and repeats the request as an upload. Not a medical device.
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

# Well above the service's own deadline, by default 10 s: the service is to say it is late.
TIMEOUT_S = 60
SEED = 7
MAX_PORT = 65535
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NoAnswerError(Exception):
    """The service gave no prediction; the text says what it said."""


def read_server(text: str) -> str:
    """Return the service's address without a last `/`, and with the scheme where it is left out."""
    return (text if "://" in text else f"http://{text}").rstrip("/")


def read_listener(text: str) -> str:
    """Return `text` where it is HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be HOST:PORT. Received: {text}")
    return text


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description="Post one image to a running cspine service.")
    parser.add_argument("image", nargs="?", help="a URL or a file; by default a synthetic slice")
    parser.add_argument(
        "--server", default="http://127.0.0.1:9696", type=read_server, help="default: %(default)s"
    )
    parser.add_argument(
        "--listen", default="127.0.0.1:9697", type=read_listener, metavar="HOST:PORT",
        help="where the synthetic slice is served, for the service to fetch (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--require-url", action="store_true", help="exit 1 where the URL is refused"
    )
    return parser.parse_args()


def make_slice() -> bytes:
    """Return a PNG of a synthetic neck with a fracture."""
    from cspine.phantom.writers.demo_slices import demo_slices

    return demo_slices(SEED)[0].png


@contextmanager
def serve_slice(png: bytes, listen: str) -> Iterator[str]:
    """Serve one picture while the block runs, and yield its URL.

    Raises:
        NoAnswerError: the address is none of this machine's, or another program has it.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(png)))
            self.end_headers()
            self.wfile.write(png)

        def log_message(self, *_: object) -> None:
            """Say nothing: the answer is what matters."""

    host, _, port = listen.rpartition(":")

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = Server((host.strip("[]"), int(port)), Handler)
    except OSError as error:
        text = f"the slice needs an address of its own. Received: {listen} ({error.strerror})"
        raise NoAnswerError(text) from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Every address is one to listen on, not one to fetch from.
    shown = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    try:
        yield f"http://{shown}:{server.server_port}/slice.png"
    finally:
        server.shutdown()
        server.server_close()


def open_session(server: str) -> requests.Session:
    """Return a session for one service, reached without a proxy where it is on this machine."""
    session = requests.Session()
    # A proxy of the environment knows nothing of this machine's own addresses.
    session.trust_env = urlsplit(server).hostname not in LOOPBACK
    return session


def post_url(server: str, url: str) -> requests.Response:
    """Ask about the image at `url`."""
    return _post(server, json={"url": url})


def post_bytes(server: str, data: bytes) -> requests.Response:
    """Ask about an image by uploading it."""
    return _post(server, files={"file": data})


def _post(server: str, **body: Any) -> requests.Response:
    with open_session(server) as session:
        return session.post(f"{server}/predict", timeout=TIMEOUT_S, **body)


def read_answer(response: requests.Response) -> dict[str, object]:
    """Return the prediction in a response, or raise NoAnswerError with what it says instead."""
    try:
        body = response.json()
    except ValueError:
        raise NoAnswerError(f"{response.status_code}, and no JSON") from None
    if not isinstance(body, dict):
        raise NoAnswerError(f"{response.status_code}, and JSON that is no answer")
    if response.status_code != 200 or "prediction" not in body:
        raise NoAnswerError(f"{response.status_code} {body.get('detail', body)}")
    return body


def ask_about_own_slice(arguments: argparse.Namespace) -> requests.Response:
    """Serve a synthetic slice and post its URL; where that is refused, upload it."""
    png = make_slice()
    with serve_slice(png, arguments.listen) as url:
        print(f"POST {arguments.server}/predict  {url}")
        response = post_url(arguments.server, url)
    # 403: the service will not fetch from there, which says nothing of the slice.
    if response.status_code != 403 or arguments.require_url:
        return response
    place = url.split("/")[2]
    print(f"The service does not fetch from {place}. To allow it, start it with "
          f"CSPINE_FETCH_ALLOW={place}, and without CSPINE_FETCH=off. "
          "Uploading the same slice instead.")  # fmt: skip
    return post_bytes(arguments.server, png)


def ask(arguments: argparse.Namespace) -> requests.Response:
    """Post what the command line names."""
    image = arguments.image
    if image is None:
        return ask_about_own_slice(arguments)
    if image.lower().startswith(("http://", "https://")):
        return post_url(arguments.server, image)
    return post_bytes(arguments.server, Path(image).read_bytes())


def main() -> int:
    """Ask, print the answer, and return the exit code."""
    arguments = parse_arguments()
    try:
        answer = read_answer(ask(arguments))
    except requests.ConnectionError:
        place = arguments.server
        text = f"nothing serves at {place}. Start `python predict_flask.py`, or give --server"
        print(f"predict_test.py: no answer: {text}", file=sys.stderr)
        return 1
    except (NoAnswerError, OSError, ValueError) as error:
        print(f"predict_test.py: no answer: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2))
    print(f"prediction: {answer['prediction']}, probability of a fracture: {answer['probability']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
