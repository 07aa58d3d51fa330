"""All middleware of the service, in one list."""

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
    """Have every request pass the middleware, in this order both ways."""
    stack = [
        RequestId(),
        Authentication(app, settings.api_keys, settings.rate_per_key),
        RefuseCompressedBodies(),
        SecurityHeaders(),
        Cors(settings.cors_origins),
        AccessLog(metrics),
    ]

    @app.before_request
    def enter() -> None:
        for part in stack:
            if hasattr(part, "before_request"):
                part.before_request()

    @app.after_request
    def leave(response: Response) -> Response:
        for part in stack:
            if hasattr(part, "after_request"):
                part.after_request(response)
        return response
