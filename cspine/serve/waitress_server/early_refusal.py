"""Waitress's own refusals, answered as problem documents like those of the views.

Knows no view and no connection; `connection.py` and `listener.py` make them.
"""

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
OVERLOADED = "The service holds as much work as it accepts. Try again in a second."
_V2_INFER = re.compile(r"/v2/models/cspine(/versions/[^/]+)?/infer")


def bounded_route(request: Any) -> str | None:
    """Return the route of a prediction, which takes a place; None for any other request.

    As the application's rules call it: the metrics know no other names.
    """
    if getattr(request, "command", "") != "POST":  # of what could not be parsed there is none
        return None
    if request.path == "/predict":
        return "/predict"
    found = _V2_INFER.fullmatch(request.path)
    if found is None:
        return None
    return f"/v2/models/cspine{'/versions/<version>' if found[1] else ''}/infer"


class ServerFullError(Error):
    """Every place is taken: said before the request costs a thread's time in the application."""

    code = 503
    reason = "Service Unavailable"


class BodiesFullError(ServerFullError):
    """All bodies together are too many: said before the rest of this one is read."""


class ProblemTask(ErrorTask):
    """A request that Waitress refuses: answered as a problem document."""

    def execute(self) -> None:
        """Write the answer, and end the connection unless its request was whole."""
        error = self.request.error
        if isinstance(error, ServerNotImplemented):
            error = BadRequest(error.body)  # an odd Transfer-Encoding is no fault of ours
        is_overload = isinstance(error, ServerFullError)
        request_id = read_request_id(self.request.headers.get("X_REQUEST_ID", ""))
        detail = OVERLOADED if is_overload else MALFORMED
        body = json.dumps(
            {
                "type": "about:blank",
                "title": error.reason,
                "status": error.code,
                "detail": detail,
                "request_id": request_id,
                # Where clients of the Open Inference Protocol look; the path may not be known yet.
                "error": detail,
            }
        ).encode()
        self.status = f"{error.code} {error.reason}"
        # No view and so no gate is reached, which adds these elsewhere.
        origins, origin = (
            self.channel.server.options.cors_origins,
            self.request.headers.get("ORIGIN"),
        )
        headers = {**HEADERS, **cors_headers(origins, origin), "X-Request-ID": request_id}
        self.response_headers += headers.items()
        self.response_headers.append(("Content-Type", "application/problem+json"))
        # Of a refused request all may be invented: only what is known is named.
        known = bounded_route(self.request)
        method, route = ("other", "unknown") if known is None else ("POST", known)
        access.info(
            "request",
            extra={
                "request_id": request_id,
                "method": method,
                "route": route,
                "status": error.code,
            },
        )
        self.channel.server.options.count_refused_request(route, method, error.code)
        if is_overload:
            self.response_headers.append(("Retry-After", "1"))
        # The rest of such a request may still come, and would be read as the next one.
        if not is_overload or isinstance(error, BodiesFullError):
            self.set_close_on_finish()
        self.content_length = len(body)
        # In one piece: Waitress sends each by itself.
        self.channel.write_soon(self.build_response_header() + body)
        self.wrote_header = True
