"""The WSGI entry: `app`, for `waitress-serve predict_flask:app` or any WSGI server.

Run directly it serves with Waitress under the project's own limits, on `CSPINE_LISTEN` (by default
0.0.0.0:9696), and SIGTERM ends it without dropping what was accepted. All settings are `CSPINE_*`
variables. Not a medical device.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

# Before the heavy imports, which are part of what a start takes.
STARTED_S = time.monotonic()
# Before Keras is imported, which reads it once.
os.environ.setdefault("KERAS_BACKEND", "openvino")
os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
# OpenVINO's converter of other programs' models is slow to import, sends usage statistics where
# these are allowed, and is not needed: OpenVINO goes on without it.
sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]

from typing import TYPE_CHECKING

from cspine.core.errors import CspineError
from cspine.core.labels import MEDICAL_NOTICE
from cspine.core.serve_settings import ServeSettings, read_settings
from cspine.serve.model_loader import start_loading
from cspine.serve.telemetry import JsonFormatter, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

logger = logging.getLogger("cspine.entry")
# Told so before it serves, the service ends once it could.
told_to_stop = threading.Event()


def configure_logging(level: str) -> None:
    """Write every log line from `level` on to stderr, as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    # `force`: a WSGI server may have set up handlers of its own before it imports this.
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # it warns with whole URLs and headers
    # At `info` it would tell the paths that clients ask for.
    logging.getLogger("waitress").setLevel(logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # the queue depth is a metric


def build_app(settings: ServeSettings) -> Flask:
    """Return the application with its model loaded and warmed.

    The rest of the service is imported only now, while the network compiles.
    """
    loading = start_loading(settings)
    from cspine.serve.app import create_app
    from cspine.serve.model_loader import open_models

    metrics = Metrics()
    return create_app(settings, open_models(settings, metrics, loading), metrics=metrics)


def call_on_signal(act: Callable[[], None]) -> None:
    """Call `act` at SIGTERM and at Ctrl-C, whose own handler would raise in the middle of work."""
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: act())


def serve(settings: ServeSettings) -> None:
    """Serve `app` until SIGTERM or Ctrl-C."""
    from cspine.serve.waitress_server.server import Runner

    runner = Runner(app)
    call_on_signal(runner.stop)
    host, port = settings.listen[0], runner.port
    ready_s = time.monotonic() - STARTED_S
    logger.info("ready after %.2f s on http://%s:%d. %s", ready_s, host, port, MEDICAL_NOTICE)
    if told_to_stop.is_set():
        runner.stop()
    runner.run()


# At import, since a WSGI server looks for `app` here; SystemExit is one line, no traceback.
try:
    if __name__ == "__main__":
        # Remembered, not raised: an exception may be lost within an import, or leave a copy of the
        # network behind.
        call_on_signal(told_to_stop.set)
    settings = read_settings(os.environ)
    configure_logging(settings.log_level)
    app = build_app(settings)
    if __name__ == "__main__":
        serve(settings)
except CspineError as error:
    print(f"predict_flask.py: {error}", file=sys.stderr)
    sys.exit(2)
