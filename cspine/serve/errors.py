"""Errors of the service: their statuses, their problem documents (RFC 9457), and failure streaks.

The answer to an internal error holds no detail but the request's id, under which the error is
logged. A streak of failed predictions makes the service not ready.
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
from werkzeug.exceptions import HTTPException

from cspine.core.deadline import UnwantedError
from cspine.core.errors import (
    CspineError,
    FetchError,
    ImageError,
    ImageTooLargeError,
    OverloadedError,
    UnsupportedImageError,
    UrlNotAllowedError,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# The class of an error → the status of its answer; the nearest base class counts.
STATUSES: dict[type[CspineError], int] = {
    UrlNotAllowedError: 403,
    ImageTooLargeError: 413,
    UnsupportedImageError: 415,
    ImageError: 422,
    FetchError: 422,
    OverloadedError: 503,
    # Settings, data sets and model files are the operator's to repair, not the caller's.
    CspineError: 500,
}
MANY = 3  # failures in a row make a streak
# After which the service is ready again: without requests it could never show that it recovered.
MEMORY_S = 10.0
OUR_FAULT = "The service met a fault of its own. The log has it under this request's id."
# Out of threads or processes, open files (of the process, of the system), buffers or memory.
_SCARCE = frozenset((errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class FaultError(CspineError):
    """An internal error; the caller sees no detail, and the log holds its cause."""


def as_fault(error: Exception) -> CspineError:
    """Return the error that is reported in place of an unexpected one, which is its cause."""
    fault: CspineError = FaultError(OUR_FAULT)
    if lacks_resource(error):
        fault = OverloadedError("The service lacks memory for this now. Try again.", 5)
    fault.__cause__ = error
    return fault


def lacks_resource(error: Exception) -> bool:
    """Return whether `error` says that memory, threads, processes or open files ran out."""
    if isinstance(error, OSError):
        return error.errno in _SCARCE
    # Python has no class of its own for a thread that cannot be started.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    )


class FailureStreak:
    """The number of predictions that failed in a row, and the time of the last failure.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._last_s = 0.0

    def end(self) -> None:
        """Count an answer."""
        self._count = 0

    def add(self) -> None:
        """Count a failure."""
        with self._lock:
            self._count += 1
            self._last_s = self._clock()

    @property
    def is_long(self) -> bool:
        """Return whether MANY predictions in a row have failed, the last within MEMORY_S."""
        # Both: a streak from an hour ago is no sign of the present state.
        return self._count >= MANY and self._clock() - self._last_s < MEMORY_S


def status_of(error: CspineError) -> int:
    """Return the status of the nearest class of `error` that the table lists."""
    # The table holds the root class, so there always is one.
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def describe_error(error: CspineError, status: int) -> dict[str, Any]:
    """Return the problem document of an error, as JSON values."""
    # The text of an overload says what to do; that of another 5xx might reveal internals.
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
        # Clients of that protocol read the reason from `error`.
        body["error"] = body["detail"]
    if "request_id" in g:
        body["request_id"] = g.request_id
    return Response(json.dumps(body), body["status"], headers, content_type=MEDIA_TYPE)


def log_if_ours(error: CspineError, status: int) -> None:
    """Log the traceback of an internal error with the request's id, which the answer holds.

    Internal errors are those of status 500, and overloads with a cause: a resource ran out.
    """
    if status == 500 or (isinstance(error, OverloadedError) and error.__cause__ is not None):
        logger.error("a request failed", exc_info=error, extra={"request_id": g.get("request_id")})


def attach(app: Flask) -> None:
    """Have every error that a view raises answered with a problem document."""

    def on_ours(error: CspineError) -> Response:
        status = status_of(error)
        log_if_ours(error, status)
        wait_s = error.retry_after_s if isinstance(error, OverloadedError) else None
        headers = None if wait_s is None else {"Retry-After": str(wait_s)}
        return make_problem(describe_error(error, status), headers)

    def on_http(error: HTTPException) -> Response:
        # Werkzeug's other headers describe its HTML page, which is not sent.
        kept = ("Allow", "Retry-After", "WWW-Authenticate")
        headers = {name: value for name, value in error.get_headers() if name in kept}
        # `about:blank`: the type adds nothing to the status (RFC 9457, 4.2.1).
        status, detail = error.code or 500, error.description or ""
        return make_problem(_document("about:blank", status, detail), headers)

    app.register_error_handler(CspineError, on_ours)
    app.register_error_handler(HTTPException, on_http)
    # The client has left and reads no answer; the access log shows 499, as proxies do.
    app.register_error_handler(UnwantedError, lambda _: Response(status=499))
    app.register_error_handler(Exception, lambda error: on_ours(as_fault(error)))
