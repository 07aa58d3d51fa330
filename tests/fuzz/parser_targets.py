"""The parsers that strange bytes reach, but the pictures': what feeds each, what it may raise.

They are imported under atheris, where it is there, so that it sees which lines an input reaches.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.fuzz.harness import Target, seen_by_atheris

ROOT = Path(__file__).resolve().parents[2]

# Of libraries, those alone that read what strangers send before our own code does.
with seen_by_atheris("cspine.core", "cspine.model", "cspine.serve", "waitress", "tomllib"):
    from cspine.core.cli_flags import read_toml
    from cspine.core.settings import cast_values
    from cspine.core.train_config import TrainConfig
    from cspine.fetch.url_policy import follow_redirect, parse_url
    from cspine.model.store.card import load_card
    from cspine.model.store.registry import resolve_version
    from cspine.model.store.weights_file import read_h5
    from cspine.serve.schemas.requests import decode_base64, parse_json_object
    from cspine.serve.schemas.v2_tensors import HEADER, read_infer_request
    from tests.support.hostile_requests import Requests, read_first, spoil
    from tests.support.hostile_urls import HOSTILE

from werkzeug.exceptions import BadRequest

from cspine.core.errors import (
    ArtifactError,
    ConfigError,
    ImageError,
    UrlNotAllowedError,
)

MODELS = ROOT / "models"
OUTPUTS = ("probability", "prediction")
TOML = b'epochs = 3\nseed = 1\n[some]\nview = "slice"\nbatch_size = 0x10\nout = """a"""\n'
PLAIN = ("http://example.org/a.png?x=1#y", "https://[2606:2800::1]:8443/ä", "http://1.1.1.1:8080")


def split_request(request: bytes) -> tuple[str | None, bytes]:
    """The V2 header's length, as it was sent, and the body of a drawn request."""
    head, _, body = request.partition(b"\r\n\r\n")
    named = [line for line in head.split(b"\r\n") if line.startswith(HEADER.encode())]
    return (named[0].partition(b":")[2].strip().decode("latin-1") if named else None), body


def parse_infer(request: bytes) -> object:
    """Read a drawn request's body as V2."""
    length, body = split_request(request)
    return read_infer_request(body, length, OUTPUTS)


def parse_json(request: bytes) -> object:
    """Read a drawn request's body as the JSON object of `/predict`."""
    return parse_json_object(split_request(request)[1])


def read_http(data: bytes) -> str:
    """Say how the service's HTTP parser takes what may be several requests."""
    first = read_first(data)
    if first.error is not None:
        return type(first.error).__name__
    return "read" if first.completed else "unfinished"


def list_targets(folder: Path, models: Path) -> Iterator[Target]:
    """Every parser. `folder` is for the files that some of them read."""
    urls = [url.encode("utf-8", "surrogatepass") for url in (*HOSTILE, *PLAIN * 60)]
    path, card, h5 = folder / "file.toml", (models / "best.json").read_bytes(), folder / "best.h5"
    good_h5 = (models / "best.h5").read_bytes()

    # Spoilt bytes need not be UTF-8, and must reach the parser all the same.
    def text(data: bytes) -> str:
        return data.decode("utf-8", "surrogateescape")

    def of_requests(form: str) -> Callable[[random.Random], bytes]:
        def draw(chance: random.Random) -> bytes:
            request = getattr(Requests(chance), form)()
            head, mark, body = request.partition(b"\r\n\r\n")
            return head + mark + (spoil(body, chance) if chance.random() < 0.5 else body)

        return draw

    def load_toml(data: bytes) -> object:
        path.write_bytes(data)
        return TrainConfig(**cast_values(TrainConfig, read_toml(path)))

    def load_spoilt_card(data: bytes) -> object:
        (folder / "best.json").write_bytes(data)
        load_card(folder)
        return resolve_version(folder)

    def load_h5(data: bytes) -> object:
        h5.write_bytes(data)
        return read_h5(h5)

    base = parse_url("https://example.org/a/b")
    url_of = lambda chance: spoil(chance.choice(urls), chance)  # noqa: E731
    url, body = (UrlNotAllowedError,), (BadRequest, ImageError)
    # A spoilt card is resolved beside a whole model file.
    shutil.copy(models / "best.h5", h5)
    yield Target("URL", url_of, lambda data: parse_url(text(data)), url, 0.2)
    yield Target("redirect", url_of, lambda data: follow_redirect(base, text(data)), url, 0.1)
    yield Target("HTTP", lambda chance: spoil(Requests(chance).draw(), chance), read_http, (), 0.1)
    yield Target("request JSON", of_requests("json"), parse_json, (BadRequest,), 0.1)
    yield Target(
        "base64",
        lambda chance: spoil(b"iVBORw0KGgo=" * 9, chance),
        lambda data: decode_base64(text(data)),
        (ImageError,),
        0.05,
    )
    yield Target("V2 JSON", of_requests("v2_json"), parse_infer, body, 0.15)
    yield Target("V2 binary", of_requests("v2_binary"), parse_infer, body, 0.15)
    yield Target(
        "model card", lambda chance: spoil(card, chance), load_spoilt_card, (ArtifactError,), 0.05
    )
    yield Target("TOML", lambda chance: spoil(TOML, chance), load_toml, (ConfigError,), 0.05)
    yield Target(
        "model file", lambda chance: spoil(good_h5, chance), load_h5, (ArtifactError,), 0.05
    )
