"""The Flask application factory. `waitress_server` or any other WSGI server can serve the app."""

from __future__ import annotations

from flask import Flask

from cspine.core.serve_settings import ServeSettings
from cspine.fetch.fetcher import Fetcher
from cspine.predict.predictor import Predictor
from cspine.serve import errors
from cspine.serve.admission import Admission
from cspine.serve.app_state import EXTENSION, Service
from cspine.serve.hot_reload import ModelManager
from cspine.serve.inference_service import InferenceService
from cspine.serve.middleware.stack import add_middleware
from cspine.serve.routes import health, openapi, page, predict, v2
from cspine.serve.schemas.requests import BoundedRequest, max_body_bytes
from cspine.serve.telemetry import Metrics


def create_app(
    settings: ServeSettings,
    predictor: Predictor | ModelManager,
    fetcher: Fetcher | None = None,
    metrics: Metrics | None = None,
) -> Flask:
    """Return the application.

    Args:
        settings: the service's settings.
        predictor: the model that answers, or the manager of one that may be replaced.
        fetcher: fetches image URLs; by default a fetcher with the policy of `settings`.
        metrics: the service's metrics; by default a new `Metrics`.
    """
    # There is no static folder, because Flask would serve every file in such a folder.
    app = Flask("cspine", static_folder=None)
    app.request_class = BoundedRequest
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes(settings)
    # This limits the headers and text fields of a form, which are parsed line by line. It does not
    # limit the files of the form.
    app.config["MAX_FORM_MEMORY_SIZE"] = 500_000
    # A redirect to the path with a slash would lose the body of a POST in many clients.
    app.url_map.strict_slashes = False
    models = predictor if isinstance(predictor, ModelManager) else ModelManager(predictor)
    service = _build_service(settings, models, fetcher, metrics)
    app.extensions[EXTENSION] = service
    add_middleware(app, settings, service.metrics)
    errors.attach(app)
    for part in (predict, health, v2, page, openapi):
        app.register_blueprint(part.blueprint)
    return app


def _build_service(
    settings: ServeSettings,
    models: ModelManager,
    fetcher: Fetcher | None,
    metrics: Metrics | None,
) -> Service:
    admission = Admission(settings.max_queue)
    metrics = metrics or Metrics()
    metrics.watch_queue(lambda: admission.taken)
    metrics.show_model(models.current)
    fetcher = fetcher or Fetcher(
        settings.fetch, settings.fetch_allow, settings.fetch_timeout_s, settings.max_bytes
    )
    inference = InferenceService(settings, models, fetcher, metrics, admission)
    return Service(settings, models, inference, metrics)
