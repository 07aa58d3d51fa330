"""Errors of the service: their statuses, their problem documents (RFC 9457), and their streaks.

A fault of ours says nothing of its inside: it is logged with the request's id, which the answer
carries. Readiness is judged by predictions that failed one after another.
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
# The class of an error → the status of its answer; the nearest class of its tree counts.
STATUSES: dict[type[CspineError], int] = {
    UrlNotAllowedError: 403,
    ImageTooLargeError: 413,
    UnsupportedImageError: 415,
    ImageError: 422,
    FetchError: 422,
    OverloadedError: 503,
    # Settings, data sets and model files are ours to mend, not the caller's.
    CspineError: 500,
}
MANY = 3  # in a row, with no answer between them
# After which the service offers itself again: asked no more, it could not mend.
MEMORY_S = 10.0
OUR_FAULT = "The service met a fault of its own. The log has it under this request's id."
# Out of threads or processes, of open files (ours, the system's), of buffers, of memory.
_SCARCE = frozenset((errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class FaultError(CspineError):
    """A defect of ours, of whose inside the caller learns nothing; its cause is for the log."""


def as_fault(error: Exception) -> CspineError:
    """Return what a caller is told in place of an error that nobody expected, its cause."""
    told: CspineError = FaultError(OUR_FAULT)
    if lacks_resource(error):
        told = OverloadedError("The service lacks memory for this now. Try again.", 5)
    told.__cause__ = error
    return told


def lacks_resource(error: Exception) -> bool:
    """Return whether `error` says that memory, threads, processes or open files ran out."""
    if isinstance(error, OSError):
        return error.errno in _SCARCE
    # Python has no class of its own for a thread that the system does not grant.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    )


class FailureStreak:
    """How many predictions in a row have failed, and when the last one did.

    Args:
        clock: seconds that never go back.
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
        """Return whether the last predictions have all failed, the last of them just now."""
        # Both: a streak from an hour ago says nothing of now.
        return self._count >= MANY and self._clock() - self._last_s < MEMORY_S


def status_of(error: CspineError) -> int:
    """Return the status of the nearest class of `error` that the table lists."""
    # The table lists the tree's root, so there always is one.
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


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


def attach(app: Flask) -> None:
    """Answer every error that leaves a view with a problem document."""

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
