"""The Flask application: makes the service's parts once and lets each view attach itself.

Errors become problem documents by the table in `statuses.py`. Nothing here listens; `server.py`
and any WSGI server do.
"""

from __future__ import annotations

from flask import Flask

from cspine.core.serve_settings import ServeSettings
from cspine.predict.predictor import Predictor
from cspine.serve import gate, health, openapi, page, predict_views, problems, protocol_v2
from cspine.serve.admission import Admission
from cspine.serve.fetch import Fetcher
from cspine.serve.inputs import BoundedRequest
from cspine.serve.models import ModelHolder
from cspine.serve.road import Road
from cspine.serve.service import EXTENSION, Service
from cspine.serve.statuses import STATUSES
from cspine.serve.telemetry import Metrics

_BASE64_GROWTH = 4 / 3
# JSON or multipart around the image.
_ENVELOPE_BYTES = 1024 * 1024


def max_body_bytes(settings: ServeSettings) -> int:
    """Return the bytes that a request's body may have: one image, in base64, and its envelope."""
    return int(settings.max_bytes * _BASE64_GROWTH) + _ENVELOPE_BYTES


def create_app(
    settings: ServeSettings,
    predictor: Predictor | ModelHolder,
    fetcher: Fetcher | None = None,
    metrics: Metrics | None = None,
) -> Flask:
    """Return the application.

    Args:
        settings: the service's settings.
        predictor: the model that answers, or the holder of one that may be changed.
        fetcher: fetches image URLs; by default one under the settings' policy.
        metrics: by default a set of its own.
    """
    # No static folder: it would serve whatever is put there.
    app = Flask("cspine", static_folder=None)
    app.request_class = BoundedRequest
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes(settings)
    # Of a form's headers and text fields, which are parsed line by line; files are not counted.
    app.config["MAX_FORM_MEMORY_SIZE"] = 500_000
    # A redirect would lose the body of a POST in many clients.
    app.url_map.strict_slashes = False
    models = predictor if isinstance(predictor, ModelHolder) else ModelHolder(predictor)
    service = _build_service(settings, models, fetcher, metrics)
    app.extensions[EXTENSION] = service
    gate.attach(app, settings, service.metrics)
    problems.attach(app, STATUSES)
    for part in (predict_views, health, protocol_v2, page, openapi):
        app.register_blueprint(part.blueprint)
    return app


def _build_service(
    settings: ServeSettings,
    models: ModelHolder,
    fetcher: Fetcher | None,
    metrics: Metrics | None,
) -> Service:
    admission = Admission(settings.max_queue)
    metrics = metrics or Metrics()
    metrics.watch_queue(lambda: admission.taken)
    metrics.show_model(models.current)
    models.on_swap = metrics.count_swap
    models.on_refusal = metrics.count_refusal
    fetcher = fetcher or Fetcher(
        settings.fetch, settings.fetch_allow, settings.fetch_timeout_s, settings.max_bytes
    )
    road = Road(settings, models, fetcher, metrics, admission)
    return Service(settings, models, road, metrics)
