"""A view's answer as JSON, written in one way by all views. Knows no view."""

from __future__ import annotations

import json
from typing import Any

from flask import Response


def answer_json(value: dict[str, Any], status: int = 200) -> Response:
    """Return `value` as JSON; a 503 says when to ask again."""
    # A balancer that reads it asks again, instead of giving the instance up.
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(
        json.dumps(value), status=status, headers=headers, content_type="application/json"
    )
