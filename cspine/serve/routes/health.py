"""GET /health, /health/live, /health/ready and /metrics: liveness, readiness and metrics."""

from __future__ import annotations

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from cspine.serve.app_state import find_service
from cspine.serve.schemas.responses import answer_json
from cspine.serve.telemetry import CONTENT_TYPE

blueprint = Blueprint("health", __name__)


@blueprint.get("/health/live")
def show_live() -> Response:
    """Answer 200, because the process takes requests."""
    # The answer does not depend on the model. A restart of the process would not repair a model,
    # but a reload can.
    return answer_json({"status": "live"})


@blueprint.get("/health")
@blueprint.get("/health/ready")
def show_ready() -> Response:
    """Answer 200 while a warmed model answers; 503 while it fails or the service is stopping."""
    service = find_service()
    state = service.state
    if state != "ready":
        return answer_json({"status": state}, 503)
    predictor = service.models.current
    model = {"architecture": predictor.architecture, "version": predictor.version}
    return answer_json({"status": state, "model": model})


@blueprint.get("/metrics")
def show_metrics() -> Response:
    """Answer with all metrics, or with 404 if the metrics have their own listener."""
    service = find_service()
    if service.settings.metrics_listen is not None:
        raise NotFound("Metrics are served on a separate address (CSPINE_METRICS_LISTEN).")
    return Response(service.metrics.render(), content_type=CONTENT_TYPE)
