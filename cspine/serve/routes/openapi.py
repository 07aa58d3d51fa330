"""GET /openapi.json: the service in OpenAPI 3.1. A test holds it and the routes together."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

import cspine
from cspine.core.labels import (
    CLASS_NAMES,
    DOMAINS,
    MEDICAL_NOTICE,
    UNCERTAIN,
    UNKNOWN_DOMAIN,
)
from cspine.serve.errors import MEDIA_TYPE
from cspine.serve.schemas.requests import EXPLANATIONS, MAX_ITEMS, RAW_TYPES
from cspine.serve.schemas.responses import answer_json

blueprint = Blueprint("openapi", __name__)

Json = dict[str, Any]


@blueprint.get("/openapi.json")
def show_document() -> Response:
    """Answer with the document."""
    return answer_json(build_document())


def build_document() -> Json:
    """Return the OpenAPI document, as JSON values."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cspine",
            "version": cspine.__version__,
            "summary": "Classifies axial CT slices of the cervical spine.",
            "description": MEDICAL_NOTICE,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {**_predict_paths(), **_health_paths(), **_v2_paths(), **_page_paths()},
        "components": {
            "schemas": _schemas(),
            "responses": {
                "Problem": {
                    "description": "What went wrong, as RFC 9457 has it.",
                    "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answers(content: Json, *problems: int, description: str = "The answer.") -> Json:
    """Return the responses of an operation: 200 with `content`, and problem documents."""
    # One definition for every error: they all have the same form.
    problem = {"$ref": "#/components/responses/Problem"}
    return {
        "200": {"description": description, "content": content},
        **{str(status): problem for status in problems},
    }


def _json_of(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _get(operation: str, summary: str, content: Json, *problems: int) -> Json:
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "responses": _answers(content, *problems),
        }
    }


def _predict_paths() -> Json:
    binary = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": binary, "minItems": 1, "maxItems": MAX_ITEMS}
    form = {
        "type": "object",
        "properties": {"file": {"oneOf": [binary, files]}},
        "required": ["file"],
    }
    one = {"name": "explain", "in": "query", "required": False,
           "description": "Pictures to add to the answer, separated by commas.",
           "style": "form", "explode": False,
           "schema": {"type": "array", "items": {"enum": list(EXPLANATIONS)}}}  # fmt: skip
    operation = {
        "operationId": "predict",
        "summary": "Answer one image, or several.",
        # The empty one: where no keys are set, none is asked for.
        "security": [{}, {"bearer": []}, {"key": []}],
        "parameters": [one],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("PredictRequest")},
                "multipart/form-data": {"schema": form},
                **{kind: {"schema": {}} for kind in RAW_TYPES},
            },
        },
        "responses": _answers(
            _json_of({"oneOf": [_ref("Answer"), _ref("Answers")]}),
            400, 401, 403, 413, 415, 422, 429, 503,
        ),
    }  # fmt: skip
    return {"/predict": {"post": operation}}


def _health_paths() -> Json:
    state = _json_of({"type": "object", "properties": {"status": {"type": "string"}}})
    metrics = {"text/plain": {"schema": {"type": "string"}}}
    ready = _get("ready", "Whether a warmed model answers.", state)
    ready["get"]["responses"]["503"] = {"description": "Not now.", "content": state}
    return {
        "/health/live": _get("live", "Whether the process takes requests.", state),
        "/health/ready": ready,
        "/metrics": _get("metrics", "Metrics, in Prometheus's text format.", metrics, 404),
    }


def _v2_paths() -> Json:
    thing = _json_of({"type": "object"})
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
    paths: Json = {
        "/v2": _get("v2Server", "The server's metadata.", thing),
        "/v2/health/live": _get("v2Live", "Whether the process takes requests.", thing),
        "/v2/health/ready": _get("v2Ready", "Whether the model answers.", thing, 503),
    }
    for suffix, word, parameters in (("", "", []), ("/versions/{version}", "Version", [version])):
        base = f"/v2/models/cspine{suffix}"
        paths[base] = _get(f"v2Model{word}", "The model's metadata.", thing, 404)
        paths[f"{base}/ready"] = _get(f"v2ModelReady{word}", "Whether it answers.", thing, 404, 503)
        paths[f"{base}/infer"] = {"post": _infer_operation(f"v2Infer{word}")}
        if parameters:
            for path in (base, f"{base}/ready", f"{base}/infer"):
                paths[path]["parameters"] = parameters
    paths["/v2/repository/models/cspine/load"] = {"post": _load_operation()}
    return paths


def _infer_operation(name: str) -> Json:
    return {
        "operationId": name,
        "summary": "Infer: `image` BYTES[N] or `pixels` UINT8[N,H,W,3]; JSON or binary tensors.",
        "security": [{}, {"bearer": []}, {"key": []}],
        "parameters": [{
            "name": "Inference-Header-Content-Length", "in": "header", "required": False,
            "schema": {"type": "integer", "minimum": 0},
        }],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "application/octet-stream": {"schema": {}},
            },
        },
        "responses": _answers(
            {**_json_of({"type": "object"}), "application/octet-stream": {"schema": {}}},
            400, 401, 404, 413, 415, 422, 429, 503,
        ),
    }  # fmt: skip


def _load_operation() -> Json:
    parameters = {"type": "object", "properties": {"version": {"type": "string"}}}
    return {
        "operationId": "v2Load",
        "summary": "Load the newest version, or a kept one by name. 404 where no API key is set.",
        "security": [{"bearer": []}, {"key": []}],
        "requestBody": {
            "content": _json_of({"type": "object", "properties": {"parameters": parameters}})
        },
        "responses": _answers(_json_of({"type": "object"}), 400, 401, 404, 413, 415, 429),
    }


def _page_paths() -> Json:
    name = {"name": "name", "in": "path", "required": True,
            "schema": {"enum": ["page.css", "page.js", "icon.svg"]}}  # fmt: skip
    part = _get("pagePart", "A file of the page.", {"*/*": {"schema": {}}}, 404)
    part["parameters"] = [name]
    return {
        "/": _get("page", "The page.", {"text/html": {"schema": {"type": "string"}}}),
        "/page/{name}": part,
        "/openapi.json": _get("document", "This document.", _json_of({"type": "object"})),
    }


def _schemas() -> Json:
    text = {"type": "string"}
    domain = {"enum": [*DOMAINS, UNKNOWN_DOMAIN], "description": "What the model learned from."}
    answer = {
        "prediction": {"enum": [*CLASS_NAMES, UNCERTAIN]},
        # OpenAPI 3.1 is JSON Schema 2020-12: null is a type, and `nullable` is no more.
        "probability": {"type": ["number", "null"], "minimum": 0, "maximum": 1,
                        "description": "Calibrated P(fracture); null where no vertebra was found."},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "in_distribution": {"type": "boolean"},
        "region": {"type": ["array", "null"], "items": {"type": "integer"},
                   "minItems": 4, "maxItems": 4,
                   "description": "x0, y0, x1, y1 in source pixels; x1 and y1 exclusive."},
        "model": {"type": "object", "required": ["architecture", "version", "domain"],
                  "properties": {"architecture": text, "version": text, "domain": domain}},
        "warnings": {"type": "array", "items": text},
    }  # fmt: skip
    picture = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}
    item = {"oneOf": [_ref("Answer"), {
        "type": "object", "required": ["error"], "properties": {"error": _ref("Problem")},
    }]}  # fmt: skip
    return {
        "Answer": {
            "type": "object",
            "required": list(answer),
            "properties": {**answer, **dict.fromkeys(EXPLANATIONS, picture)},
        },
        "Answers": {
            "type": "object",
            "required": ["results"],
            "properties": {"results": {"type": "array", "items": item}},
        },
        # Exactly one of the three, and no other key, as `requests.py` reads it.
        "PredictRequest": {"oneOf": [
            _object_of("url", {"type": "string", "format": "uri"}),
            _object_of("image", {"type": "string", "contentEncoding": "base64"}),
            _object_of("urls", {"type": "array", "items": text, "minItems": 1,
                                "maxItems": MAX_ITEMS}),
        ]},
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {"type": text, "title": text, "status": {"type": "integer"},
                           "detail": text, "request_id": text},
        },
    }  # fmt: skip


def _object_of(name: str, schema: Json) -> Json:
    return {
        "type": "object",
        "required": [name],
        "properties": {name: schema},
        "additionalProperties": False,
    }
