"""The middleware of the service, in one list."""

from __future__ import annotations

from flask import Flask, Response

from cspine.core.serve_settings import ServeSettings
from cspine.serve.middleware.access_log import AccessLog
from cspine.serve.middleware.authentication import Authentication
from cspine.serve.middleware.cors import Cors
from cspine.serve.middleware.request_id import RequestId
from cspine.serve.middleware.security_headers import RefuseCompressedBodies, SecurityHeaders
from cspine.serve.telemetry import Metrics


def add_middleware(app: Flask, settings: ServeSettings, metrics: Metrics) -> None:
    """Add the middleware to the application, in one order for requests and one for answers."""
    request_id = RequestId()
    before = (
        request_id.before_request,
        Authentication(app, settings.api_keys, settings.rate_per_key).before_request,
        RefuseCompressedBodies().before_request,
    )
    after = (
        request_id.after_request,
        SecurityHeaders().after_request,
        Cors(settings.cors_origins).after_request,
        AccessLog(metrics).after_request,
    )

    @app.before_request
    def enter() -> None:
        for act in before:
            act()

    @app.after_request
    def leave(response: Response) -> Response:
        for act in after:
            act(response)
        return response
