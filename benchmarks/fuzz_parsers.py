"""Fuzzes every parser but the pictures' with spoilt inputs and prints what came of them as JSON.

    python benchmarks/fuzz_parsers.py [--inputs 100000] [--seed 1] [--models DIR]

URLs and redirects, request JSON and base64, V2 requests in JSON and binary, model cards, TOML and
model files; pictures have `fuzz_decoders.py`. Every input must be read, or refused with the one
kind of error that its parser names; the exit code is 1 where one is not, or takes over 5 s.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("serve", "imaging", "predict")
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / room) for room in ROOMS)]

from hostile_requests import Requests, spoil  # noqa: E402
from hostile_urls import HOSTILE  # noqa: E402
from werkzeug.exceptions import BadRequest  # noqa: E402

from benchmarks.machine import describe_machine, resident_mib  # noqa: E402
from cspine.core.config import make_config  # noqa: E402
from cspine.core.errors import (  # noqa: E402
    ArtifactError,
    ConfigError,
    ImageError,
    UrlNotAllowedError,
)
from cspine.core.flags import read_toml  # noqa: E402
from cspine.model.artifact import read_h5  # noqa: E402
from cspine.model.card import load_card  # noqa: E402
from cspine.model.versions import resolve_version  # noqa: E402
from cspine.serve.inputs import decode_base64, parse_json_object  # noqa: E402
from cspine.serve.urls import follow_redirect, parse_url  # noqa: E402
from cspine.serve.v2_tensors import HEADER, read_infer_request  # noqa: E402

LIMIT_S = 5.0
OUTPUTS = ("probability", "prediction")
TOML = b'epochs = 3\nseed = 1\n[some]\nview = "slice"\nbatch_size = 0x10\nout = """a"""\n'
PLAIN = ("http://example.org/a.png?x=1#y", "https://[2606:2800::1]:8443/ä", "http://1.1.1.1:8080")


@dataclass
class Target:
    """One parser: its share of all inputs, where inputs come from, what it may raise."""

    name: str
    share: float
    draw: Callable[[random.Random], bytes]
    parse: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest_s: float = 0.0

    def try_one(self, data: bytes) -> str | None:
        """Parse one input; return what went wrong, if anything did."""
        start, wrong = time.monotonic(), None
        try:
            self.parse(data)
            self.outcomes["read"] += 1
        except self.refusals as error:
            self.outcomes[type(error).__name__] += 1
        except Exception:
            self.outcomes["failure"] += 1
            wrong = f"{self.name}: {data[:200]!r}\n{traceback.format_exc(limit=-3)}"
        seconds = time.monotonic() - start
        self.slowest_s = max(self.slowest_s, seconds)
        return wrong or (f"{self.name}: {seconds:.1f} s" if seconds > LIMIT_S else None)


def split_request(request: bytes) -> tuple[str | None, bytes]:
    """The V2 header's length, as it was sent, and the body of a drawn request."""
    head, _, body = request.partition(b"\r\n\r\n")
    named = [line for line in head.split(b"\r\n") if line.startswith(HEADER.encode())]
    return (named[0].partition(b":")[2].strip().decode("latin-1") if named else None), body


def parse_infer(request: bytes) -> object:
    """Read a drawn request's body as V2."""
    length, body = split_request(request)
    return read_infer_request(body, length, OUTPUTS)


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
        return make_config(read_toml(path))

    def load_spoilt_card(data: bytes) -> object:
        (folder / "best.json").write_bytes(data)
        load_card(folder)
        return resolve_version(folder)

    def load_h5(data: bytes) -> object:
        h5.write_bytes(data)
        return read_h5(h5)

    base = parse_url("https://example.org/a/b")
    url_of = lambda chance: spoil(chance.choice(urls), chance)  # noqa: E731
    refused = (UrlNotAllowedError,)
    yield Target("URL", 0.2, url_of, lambda data: parse_url(text(data)), refused)
    yield Target("redirect", 0.1, url_of, lambda data: follow_redirect(base, text(data)), refused)
    yield Target("request JSON", 0.2, of_requests("json"),
                 lambda data: parse_json_object(split_request(data)[1]), (BadRequest,))  # fmt: skip
    yield Target("base64", 0.05, lambda chance: spoil(b"iVBORw0KGgo=" * 9, chance),
                 lambda data: decode_base64(text(data)), (ImageError,))  # fmt: skip
    yield Target("V2 JSON", 0.15, of_requests("v2_json"), parse_infer, (BadRequest, ImageError))
    yield Target("V2 binary", 0.15, of_requests("v2_binary"), parse_infer, (BadRequest, ImageError))
    yield Target("model card", 0.05, lambda chance: spoil(card, chance), load_spoilt_card,
                 (ArtifactError,))  # fmt: skip
    yield Target("TOML", 0.05, lambda chance: spoil(TOML, chance), load_toml, (ConfigError,))
    yield Target("model file", 0.05, lambda chance: spoil(good_h5, chance), load_h5,
                 (ArtifactError,))  # fmt: skip


def main() -> int:
    """Parse, fuzz, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    arguments = parser.parse_args()
    failures, resident, chance = [], [], random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        # A spoilt card is resolved beside a whole model file.
        shutil.copy(arguments.models / "best.h5", name)
        targets = list(list_targets(Path(name), arguments.models))
        for target in targets:
            wanted = round(arguments.inputs * target.share)
            wrong = [target.try_one(target.draw(chance)) for _ in range(wanted)]
            failures += [one for one in wrong if one]
            resident.append(resident_mib())
    result = {
        "machine": describe_machine(),
        "inputs": sum(sum(target.outcomes.values()) for target in targets),
        "failures": len(failures),
        "first_failures": failures[:5],
        "slowest_s": round(max(target.slowest_s for target in targets), 3),
        "outcomes": {target.name: dict(target.outcomes.most_common()) for target in targets},
        "resident_mib_after_each": dict(
            zip((target.name for target in targets), resident, strict=True)
        ),
    }
    print(json.dumps(result, indent=2))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
