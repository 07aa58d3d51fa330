"""Every error as an RFC 9457 problem document, and the requests' own errors.

Which class of CspineError has which status is the table in `statuses.py`. A fault of ours says
nothing of its inside: it is logged with the request's id, which the answer carries.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from cspine.core.deadline import UnwantedError
from cspine.core.errors import CspineError, OverloadedError
from cspine.serve.failures import OUR_FAULT, as_fault

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


def status_of(error: CspineError, table: Mapping[type[CspineError], int]) -> int:
    """Return the status of the nearest class of `error` that the table lists."""
    # The table lists the tree's root, so there always is one.
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def describe_error(error: CspineError, status: int) -> dict[str, Any]:
    """Return the problem document of one of our errors, as JSON values."""
    # An overload is no fault, and says what to do; anything else of 500 and up might say too much.
    ours = status >= 500 and not isinstance(error, OverloadedError)
    slug = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
    return _document(f"urn:cspine:problem:{slug}", status, OUR_FAULT if ours else str(error))


def _document(kind: str, status: int, detail: str) -> dict[str, Any]:
    return {
        "type": kind,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }


def make_problem(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that carries a problem document and the request's id."""
    # Two formats at once: both kinds of client find the reason where they look.
    body = dict(document)
    if request.path.startswith("/v2"):
        # Where clients of that protocol look for it.
        body["error"] = body["detail"]
    if "request_id" in g:
        body["request_id"] = g.request_id
    return Response(
        json.dumps(body), status=body["status"], headers=headers, content_type=MEDIA_TYPE
    )


def log_if_ours(error: CspineError, status: int) -> None:
    """Write the traceback of a fault of ours under the request's id, all that the answer tells.

    A fault has the status 500, or is an overload with a cause: the machine lacks something.
    """
    if status == 500 or (isinstance(error, OverloadedError) and error.__cause__ is not None):
        logger.error("a request failed", exc_info=error, extra={"request_id": g.get("request_id")})


def attach(app: Flask, table: Mapping[type[CspineError], int]) -> None:
    """Answer every error that leaves a view with a problem document."""

    def on_ours(error: CspineError) -> Response:
        status = status_of(error, table)
        log_if_ours(error, status)
        wait_s = error.retry_after_s if isinstance(error, OverloadedError) else None
        headers = None if wait_s is None else {"Retry-After": str(wait_s)}
        return make_problem(describe_error(error, status), headers)

    def on_http(error: HTTPException) -> Response:
        # Werkzeug's other headers describe its HTML page, which is not sent.
        kept = ("Allow", "Retry-After", "WWW-Authenticate")
        headers = {name: value for name, value in error.get_headers() if name in kept}
        # `about:blank`: there is no more to it than the status says (RFC 9457, 4.2.1).
        status, detail = error.code or 500, error.description or ""
        return make_problem(_document("about:blank", status, detail), headers)

    def on_defect(error: Exception) -> Response:
        return on_ours(as_fault(error))

    def on_unwanted(_: UnwantedError) -> Response:
        # The client is gone: nobody reads this; the access log shows it as 499, as proxies do.
        return Response(status=499)

    app.register_error_handler(CspineError, on_ours)
    app.register_error_handler(HTTPException, on_http)
    app.register_error_handler(UnwantedError, on_unwanted)
    app.register_error_handler(Exception, on_defect)
