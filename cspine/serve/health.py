"""Whether the service lives, whether it is ready, and its metrics."""

from __future__ import annotations

import json

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from cspine.serve.service import find_service
from cspine.serve.telemetry import CONTENT_TYPE

blueprint = Blueprint("health", __name__)


@blueprint.get("/health/live")
def show_live() -> Response:
    """Answer 200: the process takes requests."""
    # Deliberately blind to the model: restarting the process would not mend what reloading can.
    return _json({"status": "live"}, 200)


@blueprint.get("/health/ready")
def show_ready() -> Response:
    """Answer 200 while a warmed model answers; 503 where it fails, or is told to stop."""
    service = find_service()
    if service.is_stopping:
        return _json({"status": "stopping"}, 503)
    if service.road.failures.is_long:
        return _json({"status": "failing"}, 503)
    predictor = service.models.current
    model = {"architecture": predictor.architecture, "version": predictor.version}
    return _json({"status": "ready", "model": model}, 200)


@blueprint.get("/metrics")
def show_metrics() -> Response:
    """Answer with all metrics, unless they have a listener of their own."""
    service = find_service()
    if service.settings.metrics_listen is not None:
        raise NotFound("Metrics have a listener of their own (CSPINE_METRICS_LISTEN).")
    return Response(service.metrics.render(), content_type=CONTENT_TYPE)


def _json(value: dict[str, object], status: int) -> Response:
    # A balancer that reads it asks again, instead of giving the instance up.
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(
        json.dumps(value), status=status, headers=headers, content_type="application/json"
    )
