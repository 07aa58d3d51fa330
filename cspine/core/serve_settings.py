"""The settings of a running service: the `CSPINE_*` variables, cast once into a frozen dataclass.

Entry points hand in the environment as a mapping: nothing here reads `os.environ`. Each field's
name in capitals, after `CSPINE_`, is its variable. Knows nothing of HTTP, models or images.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from cspine.core.errors import ConfigError

PREFIX = "CSPINE_"
PRECISIONS = ("auto", "f32", "bf16", "int8")
LOG_LEVELS = ("debug", "info", "warning", "error")


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) of `host:port`; an IPv6 host stands in brackets.

    Raises:
        ValueError: there is no host, or no port from 0 to 65535.
    """
    host, _, port = text.rpartition(":")
    # An empty host would listen everywhere without saying so.
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("host:port")
    return host.strip("[]"), int(port)


def _parse_list(text: str) -> tuple[str, ...]:
    """Return the entries of a comma-separated list, blanks left out.

    Raises:
        ValueError: there is none: of keys, that would open the service to everybody.
    """
    entries = tuple(entry.strip() for entry in text.split(",") if entry.strip())
    if not entries:
        raise ValueError("a list")
    return entries


def _parse_switch(text: str) -> bool:
    """Return True for `on`, False for `off`."""
    return {"on": True, "off": False}[text.lower()]


def _between(cast: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """Return a parser that casts, and refuses what is not from `low` to `high`."""

    def parse(text: str) -> float:
        value = cast(text)
        # Asked this way round, NaN is refused as well.
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def _one_of(*names: str) -> Callable[[str], str]:
    """Return a parser that accepts these words alone, in any letter case."""

    def parse(text: str) -> str:
        # ValueError for another word, which `_cast` turns into the rule.
        return names[names.index(text.lower())]

    return parse


def _setting(default: Any, rule: str, parse: Callable[[str], Any], text: str) -> Any:
    """A dataclass field with its parser, its rule in words and its help."""
    return field(default=default, metadata={"rule": rule, "parse": parse, "help": text})


def _count(default: int | None, low: int, high: int, text: str) -> Any:
    return _setting(default, f"a whole number from {low} to {high}", _between(int, low, high), text)


def _seconds(default: float, low: float, high: float, text: str) -> Any:
    rule = f"a number of seconds from {low:g} to {high:g}"
    return _setting(default, rule, _between(float, low, high), text)


_ADDRESS = "host:port"
# Pillow's own bound (`Image.MAX_IMAGE_PIXELS`).
_PILLOW_PX = 89_478_485
_LIST = "a comma-separated list"
_SWITCH = "on or off"


@dataclass(frozen=True)
class ServeSettings:
    """All settings of the service; see each field's help. Units stand in the names."""

    model_dir: str = _setting("models", "a folder", str, "where best.json and its files lie")
    listen: tuple[str, int] = _setting(("0.0.0.0", 9696), _ADDRESS, parse_address, "the listener")
    precision: str = _setting(
        "auto", "one of " + ", ".join(PRECISIONS), _one_of(*PRECISIONS), "numbers inference uses"
    )
    streams: int | None = _count(None, 1, 256, "parallel inferences; by default the engine's own")
    max_queue: int = _count(64, 1, 4096, "predictions accepted at once; beyond it, 503")
    max_bytes: int = _count(32 * 1024 * 1024, 1024, 2**31, "bytes of one image")
    max_pixels: int = _count(40_000_000, 1024, _PILLOW_PX, "pixels of one image")
    fetch: bool = _setting(True, _SWITCH, _parse_switch, "whether image URLs are fetched")
    fetch_timeout_s: float = _seconds(5.0, 0.1, 60, "for one whole fetch, redirects included")
    fetch_allow: tuple[str, ...] = _setting(
        (), _LIST, _parse_list, "host[:port] that may be fetched although its address is not public"
    )
    cache: bool = _setting(True, _SWITCH, _parse_switch, "remember answers by image content")
    deadline_s: float = _seconds(10.0, 0.1, 300, "for one prediction, from its first byte")
    api_keys: tuple[str, ...] = _setting((), _LIST, _parse_list, "keys that callers must send")
    rate_per_key: float | None = _setting(
        None, "a number above 0", _between(float, 1e-3, 1e6), "predictions a second for each key"
    )
    cors_origins: tuple[str, ...] = _setting(
        (), _LIST, _parse_list, "web origins that may call from a browser"
    )
    metrics_listen: tuple[str, int] | None = _setting(
        None, _ADDRESS, parse_address, "a listener of its own for /metrics"
    )
    card_key: str | None = _setting(
        None, "a file", str, "public key (PEM) that the model card must be signed with"
    )
    answer_synthetic: bool = _setting(
        False,
        _SWITCH,
        _parse_switch,
        "whether a model of synthetic images answers for any image, for experiments",
    )
    log_level: str = _setting(
        "info", "one of " + ", ".join(LOG_LEVELS), _one_of(*LOG_LEVELS), "least level logged"
    )


def read_settings(environment: Mapping[str, str]) -> ServeSettings:
    """Return the settings that the `CSPINE_*` entries of `environment` give; empty ones are unset.

    Raises:
        ConfigError: a value breaks its rule, or no setting has that name.
    """
    known = {PREFIX + spec.name.upper(): spec for spec in fields(ServeSettings)}
    # An empty variable is how compose files and shells leave a setting alone.
    given = {name: text for name, text in environment.items() if name.startswith(PREFIX) and text}
    # A misspelt setting that is ignored would be a limit that is not there.
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"`{near[0]}`" if near else f"one of {', '.join(known)}"
            raise ConfigError(f"A {PREFIX}* setting must be {hint}. Received: {name}")
    settings = ServeSettings(**{known[n].name: _cast(n, known[n], t) for n, t in given.items()})
    # A limit for each key limits nobody where nobody has one.
    if settings.rate_per_key is not None and not settings.api_keys:
        raise ConfigError(
            "`CSPINE_RATE_PER_KEY` needs `CSPINE_API_KEYS`. "
            f"Received: {settings.rate_per_key} and no key"
        )
    return settings


def read_setting(environment: Mapping[str, str], name: str) -> Any:
    """Return one field as `read_settings` reads it: the others may be none of a command's business.

    Raises:
        ConfigError: its value breaks its rule.
    """
    variable = PREFIX + name.upper()
    return getattr(read_settings({variable: environment.get(variable, "")}), name)


def _cast(name: str, spec: Field[Any], text: str) -> Any:
    """Return `text` as the field's type, or raise ConfigError that names both."""
    try:
        return spec.metadata["parse"](text)
    # KeyError is the switch's.
    except (ValueError, KeyError):
        raise ConfigError(f"`{name}` must be {spec.metadata['rule']}. Received: {text!r}") from None
