"""GET /openapi.json: the service in OpenAPI 3.1; tests hold document and routes together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flask import Blueprint, Response

import cspine
from cspine.serve.schemas.responses import answer_json

blueprint = Blueprint("openapi", __name__)

DOCUMENT = Path(__file__).with_name("openapi.json")


@blueprint.get("/openapi.json")
def show_document() -> Response:
    """Answer with the document."""
    return answer_json(build_document())


def build_document() -> dict[str, Any]:
    """Return the OpenAPI document, with the version of this package filled in."""
    document: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    document["info"]["version"] = cspine.__version__
    return document
