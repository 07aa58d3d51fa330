"""The access log and the count of requests."""

from __future__ import annotations

import logging
import time

from flask import Response, g, request

from cspine.serve.telemetry import Metrics

ACCESS_LOG = "cspine.access"
logger = logging.getLogger(ACCESS_LOG)

# Monitoring requests these routes every few seconds, so they are logged at `debug` only.
_PROBES = frozenset(("/health", "/health/live", "/health/ready", "/metrics"))
# HTTP allows any text as a method, but a label must have few values.
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class AccessLog:
    """Count every answer and log it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def after_request(self, response: Response) -> None:
        """Count and log the answer under the URL rule that matched the request."""
        # With the path instead of the rule, callers could put any number of names into logs and
        # labels.
        route = request.url_rule.rule if request.url_rule else "unknown"
        method = request.method if request.method in _METHODS else "other"
        self._metrics.count_request(route, method, response.status_code)
        logger.log(
            logging.DEBUG if route in _PROBES else logging.INFO,
            "request",
            extra={
                "request_id": g.request_id,
                "method": method,
                "route": route,
                "status": response.status_code,
                "duration_ms": round(1000 * (time.perf_counter() - g.started_s), 2),
                "bytes_out": response.content_length,
            },
        )
