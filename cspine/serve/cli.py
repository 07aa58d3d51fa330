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
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cspine.core.labels import MEDICAL_NOTICE
from cspine.core.serve_settings import ServeSettings, read_settings

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

# `logging.basicConfig`, which only entry points may call.
Configure = Callable[..., None]


def register(subparsers: Any) -> None:
    """Add the command `serve`."""
    subparsers.add_parser("serve").set_defaults(run=run_serve)


def run_serve(given: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    serve(given.environment, given.configure_logging, given.started_s)
    return 0


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
