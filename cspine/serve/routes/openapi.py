"""GET /openapi.json: the OpenAPI 3.1 document with this instance's version, path and limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request

import cspine
from cspine.core.serve_settings import ServeSettings
from cspine.serve.app_state import find_service
from cspine.serve.schemas.requests import MAX_ITEMS, max_body_bytes
from cspine.serve.schemas.responses import answer_json

blueprint = Blueprint("openapi", __name__)

# The file holds a placeholder `%name%` for each value that is filled in.
DOCUMENT = Path(__file__).with_name("openapi.json")


@blueprint.get("/openapi.json")
def show_document() -> Response:
    """Answer with the document."""
    return answer_json(build_document(find_service().settings, request.root_path))


def build_document(settings: ServeSettings, base_path: str = "") -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        settings: the settings that hold the limits.
        base_path: the path under which the server mounts the service, "" for the root. The
            setting of that name comes before it, since a server does not know of its proxy.
    """
    values = {
        "version": cspine.__version__,
        "base_path": settings.base_path or base_path or "/",
        "max_items": MAX_ITEMS,
        "max_body_bytes": max_body_bytes(settings),
        "max_bytes": settings.max_bytes,
        "max_pixels": settings.max_pixels,
        "max_queue": settings.max_queue,
        "deadline_s": settings.deadline_s,
    }
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, value in values.items():
        # If a placeholder is the entire string in the file, the value keeps its own type.
        text = text.replace(f'"%{name}%"', json.dumps(value)).replace(f"%{name}%", str(value))
    document: dict[str, Any] = json.loads(text)
    return document
