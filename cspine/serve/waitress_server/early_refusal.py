"""Problem documents for requests that are refused before they reach the application."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from waitress.task import ErrorTask
from waitress.utilities import BadRequest, Error, ServerNotImplemented

from cspine.serve.middleware.access_log import ACCESS_LOG
from cspine.serve.middleware.cors import cors_headers
from cspine.serve.middleware.request_id import read_request_id
from cspine.serve.middleware.security_headers import HEADERS

access = logging.getLogger(ACCESS_LOG)

MALFORMED = "The request must be well-formed HTTP/1.1 within the service's limits."
OVERLOADED = "The service already holds as much work as it accepts. Try again in a second."
_PREDICTIONS = re.compile(r"/predict|/v2/models/cspine(/versions/[^/]+)?/infer")


def bounded_route(request: Any) -> str | None:
    """Return the route of a request for predictions; None for any other request.

    Only requests for predictions take a slot of `Admission`. Routes are named as in the
    application's URL rules, because the metrics use these names.
    """
    found = _PREDICTIONS.fullmatch(request.path) if request.command == "POST" else None
    if found is None:
        return None
    return found[0].replace(found[1], "/versions/<version>") if found[1] else found[0]


class ServerFullError(Error):
    """Every slot for predictions is taken; the request does not reach the application."""

    code = 503
    reason = "Service Unavailable"

    def __init__(self) -> None:
        super().__init__(OVERLOADED)


class BodiesFullError(ServerFullError):
    """All bodies together are too large; the request is refused before its body is complete."""


class ProblemTask(ErrorTask):
    """The answer to a request that Waitress refuses, as a problem document."""

    def execute(self) -> None:
        """Write the answer, and end the connection if the request was not complete."""
        error = self.request.error
        if isinstance(error, ServerNotImplemented):
            error = BadRequest(error.body)  # an odd Transfer-Encoding is the client's fault
        is_overload = isinstance(error, ServerFullError)
        request_id = read_request_id(self.request.headers.get("X_REQUEST_ID", ""))
        self._count(error.code, request_id)
        detail = OVERLOADED if is_overload else MALFORMED
        body = json.dumps(
            {
                "type": "about:blank",
                "title": error.reason,
                "status": error.code,
                "detail": detail,
                "request_id": request_id,
                # Clients of the Open Inference Protocol read `error`. It is always set, because the
                # path may not be known yet.
                "error": detail,
            }
        ).encode()
        self.status = f"{error.code} {error.reason}"
        self.content_length = len(body)
        # The middleware adds these headers to other answers, but this request does not reach it.
        service = self.channel.server.service
        origins = service.settings.cors_origins if service else ()
        headers = HEADERS | cors_headers(origins, self.request.headers.get("ORIGIN"))
        headers |= {"X-Request-ID": request_id, "Content-Type": "application/problem+json"}
        if is_overload:
            headers["Retry-After"] = "1"
        self.response_headers += headers.items()
        # The rest of an incomplete request may still come, and would be read as the next request.
        if not is_overload or isinstance(error, BodiesFullError):
            self.set_close_on_finish()
        self.write(body)

    def _count(self, status: int, request_id: str) -> None:
        # A refused request may hold invented names, so only known methods and routes are recorded.
        known = bounded_route(self.request)
        method, route = ("other", "unknown") if known is None else ("POST", known)
        fields = {"request_id": request_id, "method": method, "route": route, "status": status}
        access.info("request", extra=fields)
        # Requests to the listener of the metrics are not counted as requests to the service.
        if service := self.channel.server.service:
            service.metrics.count_request(route, method, status)
