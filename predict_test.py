"""Smoke test: post one image to /predict and print the answer. Not a medical device.

Without an image it serves a synthetic slice on `--listen` and posts the slice's URL. If the service
is not allowed to fetch the URL, it prints which setting to change and uploads the slice instead.
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

SAMPLE = Path(__file__).parent / "cspine" / "predict" / "sample_slice.png"
TIMEOUT_S = 60  # well above the service's own deadline, so that the service ends a late request


@contextmanager
def serve_slice(png: bytes, listen: str) -> Iterator[str]:
    """Serve one picture at HOST:PORT while the block runs, and yield its URL."""
    head = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(png)
    respond = {"do_GET": lambda handler: handler.wfile.write(head + png)}
    host, _, port = listen.rpartition(":")
    family = {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET}
    try:
        handler = type("Handler", (BaseHTTPRequestHandler,), respond)
        server_class = type("Server", (ThreadingHTTPServer,), family)
        server = server_class((host.strip("[]"), int(port)), handler)
    except (OSError, ValueError, OverflowError) as error:
        what = f"{listen} ({getattr(error, 'strerror', 'not HOST:PORT')})"
        raise OSError(f"`--listen` must be a free HOST:PORT. Received: {what}") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shown = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # an address to fetch from
    try:
        yield f"http://{shown}:{server.server_port}/slice.png"
    finally:
        server.shutdown()
        server.server_close()


def post(server: str, **body: Any) -> requests.Response:
    """Post to /predict, without a proxy if the service is on this machine."""
    with requests.Session() as session:
        session.trust_env = urlsplit(server).hostname not in ("127.0.0.1", "localhost", "::1")
        return session.post(f"{server}/predict", timeout=TIMEOUT_S, **body)


def read_answer(response: requests.Response) -> dict[str, Any]:
    """Return the prediction in a response.

    Raises:
        OSError: the response is an error or not JSON; the message holds its status and reason.
    """
    try:
        body = dict(response.json())
    except (ValueError, TypeError):
        raise OSError(f"status {response.status_code} without a JSON object") from None
    if response.status_code == 200 and "prediction" in body:
        return body
    raise OSError(f"status {response.status_code}: {body.get('detail', body)}")


def ask(server: str, image: str, listen: str, require_url: bool) -> requests.Response:
    """Post a URL, a file, or the sample slice: first by its URL, then as a file if refused."""
    if image.lower().startswith(("http://", "https://")):
        return post(server, json={"url": image})
    data = Path(image or SAMPLE).read_bytes()
    if not image:
        with serve_slice(data, listen) as url:
            print(f"POST {server}/predict  {url}")
            response = post(server, json={"url": url})
        if response.status_code != 403 or require_url:  # 403: the URL's address is not allowed
            return response
        place = urlsplit(url).netloc
        print(
            f"The service does not fetch from {place}. To allow it, start the service with "
            f"CSPINE_FETCH_ALLOW={place} and without CSPINE_FETCH=off. Uploading the slice instead."
        )
    return post(server, files={"file": data})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Post one image to a running cspine service.")
    add = parser.add_argument
    add("image", nargs="?", default="", help="URL or file; default: a synthetic slice")
    add("--server", default="http://127.0.0.1:9696", help="the service; default: %(default)s")
    add("--listen", default="127.0.0.1:9697", help="where to serve the slice; default: %(default)s")
    add("--require-url", action="store_true", help="exit with 1 if the slice's URL is refused")
    given = parser.parse_args()
    given.server = f"{'' if '://' in given.server else 'http://'}{given.server}".rstrip("/")
    try:
        answer = read_answer(ask(**vars(given)))
    except (OSError, ValueError) as error:
        silent = f"no service at {given.server}. Start it with `python predict_flask.py`"
        text = silent if isinstance(error, requests.ConnectionError) else error
        sys.exit(f"predict_test.py: no answer: {text}")
    print(json.dumps(answer, indent=2))
    print("prediction: {prediction}, probability of a fracture: {probability}".format_map(answer))
