"""Errors of the service: HTTP statuses, problem documents (RFC 9457) and failure streaks.

The answer to an internal error holds no detail except the request's id. The log names the error
under the same id. A streak of failed predictions makes the service not ready.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from cspine.core.deadline import UnwantedError
from cspine.core.errors import (
    CspineError,
    FetchError,
    ImageError,
    ImageTooLargeError,
    OverloadedError,
    UnsupportedImageError,
    UrlNotAllowedError,
    quote,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# The class of an error → the status of its answer. The status of an error is that of its nearest
# base class in this table.
STATUSES: dict[type[CspineError], int] = {
    UrlNotAllowedError: 403,
    ImageTooLargeError: 413,
    UnsupportedImageError: 415,
    ImageError: 422,
    FetchError: 422,
    OverloadedError: 503,
    # All other errors concern settings, data sets or model files, which only the operator can fix.
    CspineError: 500,
}
MANY = 3  # failures in a row make a streak
# The service is ready again this long after the last failure. A service that is not ready gets no
# requests, so it could never show that it recovered.
MEMORY_S = 10.0
OUR_FAULT = "The service failed. Its log shows the cause under this request's id."
# The codes for a lack of threads or processes, of open files (in the process or in the system), of
# buffers or of memory.
_SCARCE = frozenset((errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class FaultError(CspineError):
    """An internal error. The caller sees no detail, and the log holds the cause."""


def as_fault(error: Exception) -> CspineError:
    """Return the error to report for an unexpected `error`, with `error` as its cause."""
    fault: CspineError = FaultError(OUR_FAULT)
    if lacks_resource(error):
        fault = OverloadedError(
            "The service lacks the resources for this request now. Try again.", 5
        )
    fault.__cause__ = error
    return fault


def lacks_resource(error: Exception) -> bool:
    """Return whether `error` says that memory, threads, processes or open files ran out."""
    if isinstance(error, OSError):
        return error.errno in _SCARCE
    # Python has no special error class for a thread that cannot be started.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    )


class FailureStreak:
    """The number of predictions that failed in a row, and the time of the last failure.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._last_s = 0.0

    def end(self) -> None:
        """End the streak, because a prediction succeeded."""
        self._count = 0

    def add(self) -> None:
        """Count a failed prediction."""
        with self._lock:
            self._count += 1
            self._last_s = self._clock()

    @property
    def is_long(self) -> bool:
        """Return whether MANY predictions in a row failed, the last one less than MEMORY_S ago."""
        # The time counts too, because a streak from an hour ago says nothing about the present.
        return self._count >= MANY and self._clock() - self._last_s < MEMORY_S


def status_of(error: CspineError) -> int:
    """Return the status of the nearest class of `error` that the table lists."""
    # The table holds the root class `CspineError`, so a status is always found.
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def describe_error(error: CspineError, status: int) -> dict[str, Any]:
    """Return the problem document of an error, as JSON values."""
    # The text of an overload tells the caller what to do. The text of any other 5xx error might
    # reveal internals.
    is_internal = status >= 500 and not isinstance(error, OverloadedError)
    slug = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
    return _document(f"urn:cspine:problem:{slug}", status, OUR_FAULT if is_internal else str(error))


def _document(kind: str, status: int, detail: str) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    return {"type": kind, "title": title, "status": status, "detail": detail}


def make_problem(document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that carries a problem document and the request's id."""
    body = dict(document)
    if request.path.startswith("/v2"):
        # Clients of the Open Inference Protocol read the reason from `error`.
        body["error"] = body["detail"]
    if "request_id" in g:
        body["request_id"] = g.request_id
    return Response(json.dumps(body), body["status"], headers, content_type=MEDIA_TYPE)


def log_if_ours(error: CspineError, status: int) -> None:
    """Log the traceback of an internal error with the request's id, which is also in the answer.

    Internal errors are those of status 500, and overloads with a cause (a resource ran out).
    """
    if status == 500 or (isinstance(error, OverloadedError) and error.__cause__ is not None):
        logger.error("a request failed", exc_info=error, extra={"request_id": g.get("request_id")})


def _describe_http(error: HTTPException) -> str:
    """Return the error's own text; Werkzeug's texts about unknown routes are for web pages."""
    if isinstance(error, NotFound) and error.description == NotFound.description:
        return f"A route must be one of /openapi.json. Received: {quote(request.path)}"
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        methods = ", ".join(sorted(error.valid_methods))
        return f"The method must be one of {methods}. Received: {quote(request.method)}"
    return error.description or ""


def attach(app: Flask) -> None:
    """Make the application answer every error of a view with a problem document."""

    def on_ours(error: CspineError) -> Response:
        status = status_of(error)
        log_if_ours(error, status)
        wait_s = error.retry_after_s if isinstance(error, OverloadedError) else None
        headers = None if wait_s is None else {"Retry-After": str(wait_s)}
        return make_problem(describe_error(error, status), headers)

    def on_http(error: HTTPException) -> Response:
        # Werkzeug's other headers describe Werkzeug's HTML page, which is not sent.
        kept = ("Allow", "Retry-After", "WWW-Authenticate")
        headers = {name: value for name, value in error.get_headers() if name in kept}
        # `about:blank`: the type adds nothing to the status (RFC 9457, 4.2.1).
        status, detail = error.code or 500, _describe_http(error)
        return make_problem(_document("about:blank", status, detail), headers)

    app.register_error_handler(CspineError, on_ours)
    app.register_error_handler(HTTPException, on_http)
    # The client has left, so no answer is read. The access log shows 499, as proxies do.
    app.register_error_handler(UnwantedError, lambda _: Response(status=499))
    app.register_error_handler(Exception, lambda error: on_ours(as_fault(error)))
