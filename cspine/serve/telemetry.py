"""Prometheus metrics and JSON log lines of the service.

No label and no line ever holds an image, a file name, a URL or anything from a DICOM file.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

if TYPE_CHECKING:  # these import SciPy, which would delay the load of the model
    from cspine.predict.prediction import Prediction
    from cspine.predict.predictor import Predictor

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# `slot` is the wait for a slot to decode, `queue` the wait for the engine.
STAGES = ("fetch", "slot", "decode", "queue", "inference", "total")
# The buckets start at 1 ms, because a client may set a deadline below 50 ms. The last buckets
# are for overload.
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one service, in their own registry."""

    def __init__(self) -> None:
        # In the library's global registry, two services in one process would share their counts.
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        # The library adds `_total` to a counter's name.
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self._requests = counter(
            "cspine_requests", "Requests answered", ("route", "method", "status")
        )
        stage_seconds = Histogram(
            "cspine_stage_seconds",
            "Seconds by stage of a prediction",
            ("stage",),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        # Every stage starts at 0, so that a dashboard can tell "none yet" from "not measured".
        self._stages = {stage: stage_seconds.labels(stage) for stage in STAGES}
        self._decisions = counter("cspine_decisions", "Predictions by answer", ("prediction",))
        self._distribution = counter(
            "cspine_in_distribution",
            "Predictions by whether the image looks like the training images",
            ("in_distribution",),
        )
        # The facts are in the labels, as is usual for a metric named `_info`. The value is 1.
        self._model = gauge(
            "cspine_model_info",
            "1 for the model that is served",
            ("version", "architecture", "precision"),
        )
        self._reloads = counter("cspine_reloads", "Attempts to load another model", ("result",))
        # Each series starts at 0, because Prometheus's `rate()` would miss the first event of a
        # series that starts at 1.
        for result in ("swapped", "refused"):
            self._reloads.labels(result)
        self._depth = gauge("cspine_queue_depth", "Predictions accepted and not yet answered")

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Show the result of `depth` as the number of predictions in progress."""
        self._depth.set_function(depth)

    def count_request(self, route: str, method: str, status: int) -> None:
        """Count one answered request.

        Args:
            route: the rule that matched, never the path itself.
            method: the HTTP method.
            status: the answer's status.
        """
        self._requests.labels(route, method, str(status)).inc()

    def observe(self, stage: str, seconds: float) -> None:
        """Record the seconds that one of STAGES took."""
        self._stages[stage].observe(seconds)

    def count_decision(self, prediction: Prediction) -> None:
        """Count one prediction by its class and by whether it is in distribution."""
        self._decisions.labels(prediction.prediction).inc()
        self._distribution.labels(str(prediction.in_distribution).lower()).inc()

    def show_model(self, predictor: Predictor) -> None:
        """Show `predictor` as the model that is served."""
        # Without `clear`, the old model would stay at 1 beside the new one.
        self._model.clear()
        # This is the precision in use, not the requested one: a CPU without bf16 uses f32.
        precision = predictor.engine.precision_used
        self._model.labels(predictor.version, predictor.architecture, precision).set(1)

    def count_swap(self, predictor: Predictor) -> None:
        """Count a replacement of the model, and show the new model."""
        self._reloads.labels("swapped").inc()
        self.show_model(predictor)

    def count_refused_model(self) -> None:
        """Count a model that was refused."""
        self._reloads.labels("refused").inc()

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return bytes(generate_latest(self.registry))


def make_metrics_app(metrics: Metrics) -> Callable[..., list[bytes]]:
    """Return a WSGI application that serves `/metrics` and answers any other path with 404."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        found = environ["PATH_INFO"] == "/metrics"
        body = metrics.render() if found else b""
        headers = [
            ("Content-Type", CONTENT_TYPE),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
        ]
        start_response("200 OK" if found else "404 Not Found", headers)
        return [body]

    return answer


class JsonFormatter(logging.Formatter):
    """Format each log record as a JSON object on one line, with the fields given by `extra`."""

    # Times are in UTC, because logs of several machines are read side by side.
    converter = staticmethod(time.gmtime)
    _FIELDS = ("request_id", "method", "route", "status", "duration_ms", "bytes_out")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: record.__dict__[name] for name in self._FIELDS if name in record.__dict__}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Characters outside ASCII are escaped, so that no name in a message can forge a line or
        # control a terminal.
        return json.dumps(line, ensure_ascii=True)
