"""The function with which all views write JSON responses."""

from __future__ import annotations

import json
from typing import Any

from flask import Response


def answer_json(value: dict[str, Any], status: int = 200) -> Response:
    """Return a response with `value` as JSON; a 503 response has a `Retry-After` header."""
    # A load balancer that reads the header tries again instead of giving up the instance.
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(
        json.dumps(value), status=status, headers=headers, content_type="application/json"
    )
