"""What every request passes, in and out: its id, its key, CORS, security headers, the log.

Knows no model and no image.
"""

from __future__ import annotations

import logging
import math
import re
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from flask import Flask, Response, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized, UnsupportedMediaType

from cspine.core.serve_settings import ServeSettings
from cspine.serve.admission import Keys, Rate
from cspine.serve.telemetry import Metrics

ACCESS_LOG = "cspine.access"
logger = logging.getLogger(ACCESS_LOG)

# A caller's own id is logged, so it must not be able to break a line or fill the disk.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Answers are data: should a browser be made to show one, it may load and run nothing.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # An answer about a patient has no place in a proxy.
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# What a page of another origin may send beside the few headers that CORS always allows.
_ALLOWED_HEADERS = (
    "Authorization, Content-Type, Inference-Header-Content-Length, X-API-Key, X-Request-ID"
)
# Asked every few seconds.
_PROBES = frozenset(("/health/live", "/health/ready", "/metrics"))
# Methods are free text in HTTP, and a label must not be.
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_View = TypeVar("_View", bound=Callable[..., Any])
# An endpoint's attribute: its caller must send a key where keys are set.
GUARDED = "guarded"


def attach(app: Flask, settings: ServeSettings, metrics: Metrics) -> None:
    """Put the gate before and after every view of `app`."""
    keys, rate = Keys(settings.api_keys), Rate(settings.rate_per_key)

    @app.before_request
    def enter() -> Response | None:
        g.started_s = time.perf_counter()
        g.request_id = read_request_id(request.headers.get("X-Request-ID", ""))
        view = app.view_functions.get(request.endpoint or "")
        # A preflight carries no key, by the standard of CORS.
        if keys and getattr(view, GUARDED, False) and request.method != "OPTIONS":
            _check_key(keys, rate)
        # A body that is inflated may be a bomb, and clients that compress pictures gain nothing.
        if request.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise UnsupportedMediaType(
                "`Content-Encoding` must be absent: bodies are read as sent."
            )
        return None

    @app.after_request
    def leave(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        origin, is_preflight = request.headers.get("Origin"), request.method == "OPTIONS"
        response.headers.update(cors_headers(settings.cors_origins, origin, is_preflight))
        _record(response, metrics)
        return response


def read_request_id(sent: str) -> str:
    """Return the caller's own id of its request where it may be logged, else a new one."""
    return sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


def guarded(view: _View) -> _View:
    """Mark a view as one that needs a key where keys are set."""
    setattr(view, GUARDED, True)
    return view


def charge_images(count: int) -> None:
    """Count a request's images on its key's rate, but the first, which was counted at the gate.

    After they were let in: of a full service's refusal nothing is charged.
    """
    if "charge" in g:
        g.charge(count - 1)


def _check_key(keys: Keys, rate: Rate) -> None:
    """Let the request through, or raise what says why not."""
    # The scheme's case does not matter (RFC 9110, 11.1).
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    caller = keys.find(request.headers.get("X-API-Key") or bearer)
    # The same words for no key and for a wrong one.
    if caller is None:
        raise Unauthorized(
            "The header `Authorization: Bearer <key>` or `X-API-Key` must hold a valid key.",
            # A 401 must name a scheme (RFC 9110, 15.5.2).
            www_authenticate=WWWAuthenticate("bearer"),
        )
    # After the key: an unknown caller must not use up anybody's rate.
    wait_s = rate.take(caller)
    if wait_s > 0:
        # In whole seconds (RFC 9110, 10.2.3), rounded up so as not to come too soon.
        raise TooManyRequests("The key's rate is used up.", retry_after=math.ceil(wait_s))
    g.charge = partial(rate.charge, caller)


def cors_headers(
    origins: tuple[str, ...], origin: str | None, is_preflight: bool = False
) -> dict[str, str]:
    """Return the headers that allow the caller's origin where it is listed; none with no list."""
    if not origins:
        return {}
    # Also where the origin is not listed, or a cache would serve one origin's answer to another.
    headers = {"Vary": "Origin"}
    if origin is not None and origin in origins:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-ID"
        if is_preflight:
            headers["Access-Control-Allow-Methods"] = "GET, POST"
            headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
    return headers


def _record(response: Response, metrics: Metrics) -> None:
    """Count the answer and write its line; the route is the rule, never what the caller wrote."""
    # A path would put names of the caller's choice into logs and labels, without end.
    route = request.url_rule.rule if request.url_rule else "unknown"
    method = request.method if request.method in _METHODS else "other"
    metrics.count_request(route, method, response.status_code)
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
