"""The settings of the service: the `CSPINE_*` variables as a frozen dataclass.

A field's variable is `CSPINE_` followed by the field's name in capitals. Entry points pass in the
environment as a mapping; `os.environ` is not read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cspine.core.settings import Rules, cast_values, setting

PREFIX = "CSPINE_"
PRECISIONS = ("auto", "f32", "bf16", "int8")
LOG_LEVELS = ("debug", "info", "warning", "error")
# Pillow's own limit (`Image.MAX_IMAGE_PIXELS`).
_PILLOW_PX = 89_478_485
_SECONDS = "a number of seconds"


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) of `host:port`; an IPv6 host is in brackets.

    Raises:
        ValueError: the host is missing, or the port is not a number from 0 to 65535.
    """
    host, _, port = text.rpartition(":")
    # An empty host would make the service listen on every address.
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("host:port")
    return host.strip("[]"), int(port)


def parse_origin(text: str) -> str:
    """Return a web origin, `scheme://host[:port]`, as browsers write it, or `*` for every origin.

    Raises:
        ValueError: the text is no origin, so no browser would ever send it.
    """
    if text != "*" and not _ORIGIN.fullmatch(text):
        raise ValueError("origin")
    return text


def parse_base_path(text: str) -> str:
    """Return a path that URLs may begin with, such as `/cspine`.

    Raises:
        ValueError: the text is no such path.
    """
    # Matched in full, since the path is written into the API's description.
    if not _BASE_PATH.fullmatch(text):
        raise ValueError("base path")
    return text


def _parse_switch(text: str) -> bool:
    return {"on": True, "off": False}[text.lower()]


_ADDRESS = Rules(parse=parse_address, rule="host:port")
# Browsers send the scheme and host in lower case, and never a path or the default port (Fetch
# standard, "origin header"; WHATWG URL, "serialisation of an origin").
_ORIGIN = re.compile(r"(?!https://[^:]+:443$|http://[^:]+:80$)https?://[a-z0-9.\[\]:-]*[a-z0-9\]]")
_ORIGINS = Rules(
    parse=parse_origin,
    rule="`*` or origins such as https://viewer.example.org or http://localhost:8080, in lower "
    "case, without a path, a slash at the end or the scheme's own port",
)
_BASE_PATH = re.compile(r"(/[A-Za-z0-9_-]+)*")
_SWITCH = Rules(parse=_parse_switch, rule="on or off")


@dataclass(frozen=True)
class ServeSettings:
    """All settings of the service, explained by each field's help text."""

    model_dir: str = setting("models", "folder of best.json and the model's files")
    listen: tuple[str, int] = setting(
        ("127.0.0.1", 9696), "address and port to listen on", **_ADDRESS
    )
    precision: str = setting(
        "auto", "numeric precision of inference", choices=PRECISIONS, parse=str.lower
    )
    streams: int | None = setting(
        None, "parallel inferences; by default, the number of cores", 1, 256
    )
    max_queue: int = setting(
        64, "predictions accepted at once; further ones get status 503", 1, 4096
    )
    max_bytes: int = setting(32 * 1024 * 1024, "maximum bytes of one image", 1024, 2**31)
    max_pixels: int = setting(40_000_000, "maximum pixels of one image", 1024, _PILLOW_PX)
    fetch: bool = setting(True, "whether image URLs are fetched", **_SWITCH)
    fetch_timeout_s: float = setting(
        5.0, "time limit of one fetch, including redirects", 0.1, 60, rule=_SECONDS
    )
    fetch_allow: tuple[str, ...] = setting(
        (), "host[:port] entries that may be fetched even if their address is not public"
    )
    cache: bool = setting(True, "remember answers by image content", **_SWITCH)
    deadline_s: float = setting(
        10.0,
        "time limit of one prediction, from the first byte of the request",
        0.1,
        300,
        rule=_SECONDS,
    )
    api_keys: tuple[str, ...] = setting((), "API keys; a caller must send one of them", secret=True)
    rate_per_key: float | None = setting(
        None, "predictions per second for each key", 0.001, 1_000_000
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        "web origins whose pages may call the service from a browser; `*` for every page",
        **_ORIGINS,
    )
    base_path: str = setting(
        "",
        "path under which a proxy serves the service, for the API's description",
        parse=parse_base_path,
        rule="a path such as /cspine, without a slash at the end",
    )
    metrics_listen: tuple[str, int] | None = setting(
        None, "separate address and port for /metrics", **_ADDRESS
    )
    card_key: str | None = setting(
        None, "PEM file of the public key that must verify the model card's signature"
    )
    answer_synthetic: bool = setting(
        False,
        "whether a model trained on synthetic images answers for any image; for experiments only",
        **_SWITCH,
    )
    log_level: str = setting(
        "info", "lowest level that is logged", choices=LOG_LEVELS, parse=str.lower
    )


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def read_settings(environment: Mapping[str, str]) -> ServeSettings:
    """Return the settings of the `CSPINE_*` entries of `environment`; empty ones count as unset.

    Raises:
        ConfigError: values break their rules, or names are unknown; one line for each fault.
    """
    # Compose files and shells pass an empty variable for a setting that is not given.
    given = {name: text for name, text in environment.items() if name.startswith(PREFIX) and text}
    rate, keys = _variable("rate_per_key"), _variable("api_keys")
    # Without keys, a rate per key would limit nobody.
    needs = f"`{rate}` needs `{keys}`. Received: {given.get(rate)!r} and no key"
    faults = [needs] if rate in given and keys not in given else []
    return ServeSettings(**cast_values(ServeSettings, given, _variable, faults))


def read_setting(environment: Mapping[str, str], name: str) -> Any:
    """Return the value of one field; the other variables are neither read nor checked.

    Raises:
        ConfigError: the value breaks the field's rule.
    """
    return getattr(read_settings({_variable(name): environment.get(_variable(name), "")}), name)
