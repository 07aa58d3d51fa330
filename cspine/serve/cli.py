"""The command `python -m cspine serve`, and the functions that `predict_flask.py` calls.

The network starts to load before Flask and SciPy are imported (`model_loader.py`). Modules that
import Flask or SciPy are therefore imported within functions. Entry points pass in the environment
and `logging.basicConfig`, because only entry points may use these two.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import cspine
from cspine.core.cli_flags import OneLineParser
from cspine.core.labels import MEDICAL_NOTICE
from cspine.core.serve_settings import PREFIX, ServeSettings, read_settings
from cspine.core.settings import describe_default

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

# `logging.basicConfig`, which only entry points may call.
Configure = Callable[..., None]


def register(subparsers: Any) -> None:
    """Add the command `serve`."""
    parser = subparsers.add_parser(
        "serve", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser)
    parser.set_defaults(run=run_serve)


def run_serve(given: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    serve(apply_flags(given.environment, given), given.configure_logging, given.started_s)
    return 0


def read_flags(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the settings that the flags of `predict_flask.py` give.

    Raises:
        ConfigError: an argument is unknown or malformed.
    """
    parser = OneLineParser(
        prog="predict_flask.py",
        description="Serve the model over HTTP.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cspine {cspine.__version__}")
    add_flags(parser)
    return apply_flags(environment, parser.parse_args(arguments))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the three settings that change most often."""
    parser.add_argument("--host", help="address to listen on, instead of that in CSPINE_LISTEN")
    parser.add_argument("--port", help="port to listen on, instead of that in CSPINE_LISTEN")
    parser.add_argument("--model-dir", metavar="DIR", help="sets CSPINE_MODEL_DIR")


def apply_flags(environment: Mapping[str, str], given: argparse.Namespace) -> dict[str, str]:
    """Return the environment in which flags that are given replace their variables."""
    changed = dict(environment)
    default = describe_default(ServeSettings.listen) or ""
    host, _, port = (changed.get("CSPINE_LISTEN") or default).rpartition(":")
    if given.host is not None:
        # An IPv6 address is in brackets beside a port (RFC 3986 section 3.2.2).
        host = f"[{given.host}]" if ":" in given.host.strip("[]") else given.host
    if given.host is not None or given.port is not None:
        changed["CSPINE_LISTEN"] = f"{host}:{port if given.port is None else given.port}"
    if given.model_dir is not None:
        changed["CSPINE_MODEL_DIR"] = given.model_dir
    return changed


def list_settings() -> str:
    """Return a line for each setting: variable, default, and what it is."""
    lines = []
    for spec in fields(ServeSettings):
        default = describe_default(spec.default, ("off", "on"))
        lines.append(f"  {PREFIX}{spec.name.upper()} ({default or 'not set'})")
        lines.append(f"      {spec.metadata['help']}")
    return "\n".join(lines)


EPILOG = f"""\
example:
  python predict_flask.py --port 8080 --model-dir models

exit codes: 0 stopped by SIGTERM or Ctrl-C, 2 something that you can correct

environment variables, with their defaults (the flags win over them; the container's health check
reads the variables alone):
{list_settings()}
"""


def serve(environment: Mapping[str, str], configure_logging: Configure, started_s: float) -> None:
    """Serve with Waitress on `CSPINE_LISTEN` until SIGTERM or Ctrl-C.

    Args:
        environment: holds the `CSPINE_*` settings.
        configure_logging: `logging.basicConfig`.
        started_s: when the process started, as a value of `time.monotonic`.

    Raises:
        ArtifactError: there is no model that may be served.
        ConfigError: a setting cannot be used.
    """
    is_stopping = threading.Event()
    # The signal sets an event. An exception might be swallowed by an import, or leave a copy of the
    # network behind.
    call_on_signal(is_stopping.set)
    settings = open_settings(environment, configure_logging)
    app = build_app(settings)
    from cspine.serve.waitress_server.server import Runner

    runner = Runner(app)
    call_on_signal(runner.stop)
    host, port = settings.listen[0], runner.port
    ready_s = time.monotonic() - started_s
    logger.info("ready after %.2f s on http://%s:%d. %s", ready_s, host, port, MEDICAL_NOTICE)
    # The signal may have come before the service was ready.
    if is_stopping.is_set():
        runner.stop()
    runner.run()


def call_on_signal(act: Callable[[], None]) -> None:
    """Call `act` on SIGTERM and on Ctrl-C.

    Python's own handler of Ctrl-C would raise an exception in the middle of work.
    """
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: act())


def open_settings(environment: Mapping[str, str], configure_logging: Configure) -> ServeSettings:
    """Read the service's settings, and log to stderr from the configured level upwards.

    Args:
        environment: holds the `CSPINE_*` settings.
        configure_logging: `logging.basicConfig`.

    Raises:
        ConfigError: a setting cannot be used.
    """
    from cspine.serve.telemetry import JsonFormatter

    settings = read_settings(environment)
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    # `force` replaces handlers that a WSGI server may have set up before it imported this module.
    configure_logging(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # it warns with full URLs and headers
    # At `info`, Waitress would log the paths that clients request.
    logging.getLogger("waitress").setLevel(logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # the queue depth is a metric
    return settings


def build_app(settings: ServeSettings) -> Flask:
    """Return the application with its model loaded and warmed.

    The rest of the service is imported while the network compiles.

    Raises:
        ArtifactError: there is no model that may be served.
        ConfigError: `CSPINE_CARD_KEY` is not a public key.
    """
    # The `None` stops OpenVINO, which is imported next, from importing its converter of other
    # frameworks' models. The converter is slow to import, may send usage statistics and is not
    # needed.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
    from cspine.serve.model_loader import open_models, start_loading

    loading = start_loading(settings)
    from cspine.serve.app import create_app
    from cspine.serve.telemetry import Metrics

    metrics = Metrics()
    return create_app(settings, open_models(settings, metrics, loading), metrics=metrics)
