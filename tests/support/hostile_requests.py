"""Requests that no client would send, drawn at random, and how a service answers each.

Bodies of every form are built well and then spoilt: in their values, their lengths, their headers
or their bytes. URLs name hosts that lead nowhere but loopback, however their bytes are changed.
"""

import base64
import http.client
import json
import random
import socket
import struct
import time
from dataclasses import dataclass

from waitress.adjustments import Adjustments

from cspine.serve.waitress_server.parser import RequestParser
from cspine.serve.waitress_server.server import MAX_HEADER_BYTES

from .hostile_urls import AMBIGUOUS, NOT_PUBLIC, NOT_PUBLIC_V6, OTHER_SCHEMES, spellings
from .service_fakes import make_png

LIMIT_S = 5.0
INFER = b"/v2/models/cspine/infer"
URLS = (
    *AMBIGUOUS,
    *OTHER_SCHEMES,
    *(f"http://{a}/a.png" for a in NOT_PUBLIC),
    *(f"https://[{a}]:8443/" for a in NOT_PUBLIC_V6),
    *(f"http://{a}/" for a in spellings("10.0.0.1")),
)
PATHS = (
    b"/",
    b"/predict",
    b"/predict?explain=heatmap,image",
    b"/predict?explain=%ff&explain=a",
    b"/health/live",
    b"/health/ready",
    b"/metrics",
    b"/openapi.json",
    b"/page.js",
    b"/icon.svg",
    b"/v2",
    b"/v2/health/ready",
    b"/v2/models/cspine",
    b"/v2/models/cspine/versions/x/infer",
    b"/v2/repository/models/cspine/load",
    INFER,
    b"/../../etc/passwd",
    b"/%2e%2e/%2e%2e/etc/passwd",
    b"/predict/",
    b"//predict",
    b"/predict%00",
    b"/\xff\xfe",
    b"/" + b"a" * 9000,
    b"*",
    b"http://127.0.0.1/predict",
    b"/web/../predict_flask.py",
    b"/v2/models/..%2f..%2fbest.json",
)
METHODS = (
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"CONNECT",
    b"get",
    b"P" * 300,
    b"\0",
)
HEADERS = (
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Content-Length: 0",
    b"Content-Length: -5",
    b"Content-Length: 5, 6",
    b"Content-Length: 99999999999999",
    b"Content-Encoding: gzip",
    b"Expect: 100-continue",
    b"Expect: a miracle",
    b"Range: bytes=0-1",
    b"Inference-Header-Content-Length: 7",
    b"Inference-Header-Content-Length: 1e3",
    b"Host: evil.example",
    b"Host:",
    b"Origin: null",
    b"X-Request-ID: a\tb",
    b"X-API-Key: \xff",
    b"Authorization: Bearer",
    b"Cookie: " + b"a=b;" * 900,
    b"X-Forwarded-For: 127.0.0.1",
    b"Accept: \xf0\x9f",
    b"If-None-Match: *",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Bad Name: x",
    b"Long: " + b"x" * 40_000,
    b"Content-Type: multipart/form-data",
    b"Content-Type: application/json",
    b"Content-Type: image/png; charset=\xff",
    b" folded: line",
    b"No-Colon",
)
TYPES = (
    b"image/png",
    b"image/jpeg",
    b"application/dicom",
    b"application/octet-stream",
    b"text/html",
    b"application/json; charset=utf-16",
    b"IMAGE/PNG",
    b"",
    b"multipart/form-data; boundary=",
)
ODD = (
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    float("nan"),
    "",
    "\ud800",
    "\0",
    "é" * 99,
    [],
    {},
    [[]],
    {"url": 1},
    "A" * 5000,
    "data:image/png;base64,",
    [1, 2, 3],
    "<script>",
    "%s%n",
)
_ADJUSTMENTS = Adjustments(
    max_request_header_size=MAX_HEADER_BYTES, max_request_body_size=2**26, inbuf_overflow=2**26
)


def spoil(data: bytes, chance: random.Random, edits: int = 6) -> bytes:
    """Cut, repeat, overwrite or insert a few bytes, most often near the start."""
    spoilt = bytearray(data or b"x")
    for _ in range(chance.randint(1, edits)):
        at = chance.randrange(min(len(spoilt), chance.choice((60, 400, len(spoilt)))))
        match chance.randrange(4):
            case 0:
                spoilt[at] = chance.randrange(256)
            case 1:
                piece = (b"\r\n", b"\0", b":", b"{[", b"99999999", b"\xff" * 9, b'"', b"\\u0000")
                spoilt[at:at] = chance.choice(piece)
            case 2:
                del spoilt[at : at + chance.randint(1, 9)]
            case _:
                spoilt[at:at] = spoilt[at : at + chance.randint(1, 40)]
        spoilt = spoilt or bytearray(b"x")
    return bytes(spoilt)


class Requests:
    """Draws requests. `images` are files to build bodies with, good ones and hostile ones."""

    def __init__(self, chance: random.Random, images: tuple[bytes, ...] = (make_png(),)):
        self.chance, self.images = chance, images
        self.forms = (self.json, self.multipart, self.raw, self.v2_json, self.v2_binary, self.head)

    def draw(self) -> bytes:
        """One whole request, three in ten of them with bytes spoilt anywhere."""
        request = self.chance.choice(self.forms)()
        return spoil(request, self.chance) if self.chance.random() < 0.3 else request

    def image(self) -> bytes:
        data = self.chance.choice(self.images)
        return spoil(data, self.chance) if self.chance.random() < 0.6 else data

    def odd(self) -> object:
        return self.chance.choice(ODD)

    def post(self, path: bytes, kind: bytes, body: bytes, *headers: bytes) -> bytes:
        if self.chance.random() < 0.1:
            headers += (self.chance.choice(HEADERS),)
        length = len(body) if self.chance.random() < 0.95 else self.chance.randrange(9999)
        lines = (
            b"POST %s HTTP/1.1" % path,
            b"Host: a",
            b"Connection: close",
            b"Content-Type: " + kind,
            b"Content-Length: %d" % length,
            *headers,
        )
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def json(self) -> bytes:
        chance = self.chance
        value = chance.choice(
            (
                {"url": chance.choice(URLS)},
                {"url": self.odd()},
                {"image": self.odd()},
                self.odd(),
                {"image": base64.b64encode(self.image()).decode()},
                {"urls": [chance.choice(URLS) for _ in range(chance.choice((1, 3, 65)))]},
                {"urls": self.odd()},
                {"url": chance.choice(URLS), "image": ""},
            )
        )
        text = json.dumps(value).encode()
        if chance.random() < 0.1:
            text = chance.choice(
                (b"[" * 99_999, b'{"url":' * 999, b"\xef\xbb\xbf" + text, b"1" * 9999)
            )
        path = chance.choice((b"/predict", b"/predict?explain=heatmap", b"/predict?explain=x"))
        return self.post(path, b"application/json", text)

    def multipart(self) -> bytes:
        chance, mark = self.chance, b"x" * self.chance.choice((1, 9, 80))
        names = (
            b'name="file"; filename="a.png"',
            b'name="file"',
            b"name=file; filename=<b>",
            b'name="\xff"; filename="../../a"',
            b"filename*=utf-8''%00",
            b"",
        )
        parts = [
            b"--%s\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n"
            % (mark, chance.choice(names[:2] if chance.random() < 0.7 else names), self.image())
            for _ in range(chance.choice((1, 1, 1, 2, 65)))
        ]
        body = b"".join(parts) + b"--%s--\r\n" % mark
        kind = b"multipart/form-data; boundary=" + chance.choice((mark, mark, mark, b"y"))
        return self.post(b"/predict?explain=image", kind, body)

    def raw(self) -> bytes:
        kinds = TYPES[:4] if self.chance.random() < 0.8 else TYPES
        return self.post(b"/predict", self.chance.choice(kinds), self.image())

    def tensor(self) -> tuple[dict, bytes]:
        """An input that is right, or wrong in one of its parts, and its binary form."""
        chance, count = self.chance, self.chance.choice((1, 1, 2, 65))
        if chance.random() < 0.5:
            images = [self.image() for _ in range(count)]
            tensor = {"name": "image", "datatype": "BYTES", "shape": [count]}
            tensor["data"] = [base64.b64encode(one).decode() for one in images]
            binary = b"".join(struct.pack("<I", len(one)) + one for one in images)
        else:
            side = chance.choice((1, 3, 33))
            tensor = {"name": "pixels", "datatype": "UINT8", "shape": [count, side, side, 3]}
            binary = chance.randbytes(count * side * side * 3)
            tensor["data"] = list(binary)
        if chance.random() < 0.5:
            tensor[chance.choice((*tensor, "parameters"))] = chance.choice(
                (self.odd(), [0], [65536] * 4, [-1, 2], [[1], [2, 3]], [2**40], "image", [300])
            )
        return tensor, binary

    def v2_head(self, tensor: dict) -> dict:
        head = {"id": self.odd(), "inputs": [tensor] * self.chance.choice((1, 1, 1, 0, 2))}
        if self.chance.random() < 0.4:
            head["outputs"] = self.chance.choice(
                (
                    [{"name": "probability", "parameters": {"binary_data": True}}],
                    self.odd(),
                    [{}],
                    [{"name": "prediction"}] * 99,
                )
            )
        if self.chance.random() < 0.2:
            head[self.chance.choice(("inputs", "parameters", "id"))] = self.odd()
        return head

    def v2_json(self) -> bytes:
        tensor, _ = self.tensor()
        return self.post(INFER, b"application/json", json.dumps(self.v2_head(tensor)).encode())

    def v2_binary(self) -> bytes:
        tensor, binary = self.tensor()
        tensor.pop("data", None)
        if self.chance.random() < 0.3:
            binary = spoil(binary, self.chance)
        wrong = self.chance.random() < 0.2
        tensor["parameters"] = {"binary_data_size": self.odd() if wrong else len(binary)}
        text = json.dumps(self.v2_head(tensor)).encode()
        length = len(text) if self.chance.random() < 0.9 else self.chance.randrange(9999)
        header = b"Inference-Header-Content-Length: %d" % length
        return self.post(INFER, b"application/octet-stream", text + binary, header)

    def head(self) -> bytes:
        """A request whose line and headers are the odd part."""
        chance = self.chance
        line = b"%s %s %s" % (
            chance.choice(METHODS[:3] if chance.random() < 0.7 else METHODS),
            chance.choice(PATHS),
            chance.choice((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"")),
        )
        headers = chance.choices(HEADERS, k=chance.choice((0, 1, 2, 5, 300)))
        return b"\r\n".join((line, b"Host: a", b"Connection: close", *headers)) + b"\r\n\r\n"


def read_first(data: bytes) -> RequestParser:
    """The first request in `data`, as far as it goes, by the parser that the service uses."""
    parser = RequestParser(_ADJUSTMENTS)
    while data:
        taken = parser.received(data)
        if parser.completed and not parser.empty:
            break
        if parser.completed:
            parser = RequestParser(_ADJUSTMENTS)
        data = data[taken:]
    return parser


@dataclass(frozen=True)
class Answer:
    """What came: `status` is 0 where the connection was ended without an answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    is_due: bool  # the request was whole and well-formed, so that an answer had to come

    def fault(self) -> str | None:
        """Why this is no answer that a service may give, or None."""
        if self.seconds > LIMIT_S:
            return f"took {self.seconds:.1f} s"
        if self.status == 0:
            return "no answer to a whole request" if self.is_due else None
        if self.status == 503:
            return None if "retry-after" in self.headers else "503 without Retry-After"
        return f"status {self.status}" if self.status >= 500 else None


def exchange(port: int, request: bytes) -> Answer:
    """Send one request; where it is not whole, say so by ending the sending half."""
    first, began = read_first(request), time.monotonic()
    status, headers, body = 0, {}, b""
    with socket.create_connection(("127.0.0.1", port), timeout=3 * LIMIT_S) as connection:
        try:
            connection.sendall(request)
            if not first.completed:
                connection.shutdown(socket.SHUT_WR)
            method = getattr(first, "command", "GET")  # unset where the first line is none
            answer = http.client.HTTPResponse(connection, method=method)
            answer.begin()
            status = answer.status
            headers = {name.lower(): value for name, value in answer.getheaders()}
            body = answer.read()
        except (OSError, http.client.HTTPException):
            pass  # ended by the service; what it means is `fault`'s to say
    is_due = first.completed and first.error is None
    return Answer(status, headers, body, time.monotonic() - began, is_due)
