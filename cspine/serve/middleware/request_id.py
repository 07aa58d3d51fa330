"""The id of a request, which appears in the answer, the problem document and the log line."""

from __future__ import annotations

import re
import time
import uuid

from flask import Response, g, request

# An id that the caller chose is logged, so it must not break a line or fill the disk.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """Record the id and the start time of each request, and put the id into the answer."""

    def before_request(self) -> None:
        """Set `g.request_id` and `g.started_s`."""
        g.started_s = time.perf_counter()
        g.request_id = read_request_id(request.headers.get("X-Request-ID", ""))

    def after_request(self, response: Response) -> None:
        """Add the id to the answer."""
        response.headers["X-Request-ID"] = g.request_id


def read_request_id(sent: str) -> str:
    """Return the request id that the caller sent if it may be logged, else a new id."""
    return sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
