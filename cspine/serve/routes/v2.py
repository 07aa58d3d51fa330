"""The Open Inference Protocol (V2) over HTTP, so that clients of other servers work unchanged.

Images pass the same checks as in `/predict`. A missing `probability` is NaN in binary data and null
in JSON.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest, NotFound, UnsupportedMediaType

import cspine
from cspine.core.errors import ArtifactError, CspineError, OverloadedError
from cspine.predict.prediction import Prediction
from cspine.predict.predictor import Predictor
from cspine.serve.app_state import find_service, watch_client
from cspine.serve.middleware.authentication import charge_images, require_api_key
from cspine.serve.schemas.requests import Source, parse_json_object
from cspine.serve.schemas.responses import answer_json
from cspine.serve.schemas.v2_tensors import (
    HEADER,
    OUTPUTS,
    read_infer_request,
    write_infer_response,
)

blueprint = Blueprint("v2", __name__, url_prefix="/v2")

NAME = "cspine"
_MODEL = f"/models/{NAME}"
_VERSION = f"{_MODEL}/versions/<version>"
# Requests are parsed one at a time. Parsed numbers take ten times the memory of their JSON text,
# and Python parses only one text at a time anyway.
_READING = threading.Lock()
_READING_WAIT_S = 1.0


@blueprint.get("")
def show_server() -> Response:
    """Answer with the server's metadata."""
    return answer_json(
        {"name": NAME, "version": cspine.__version__, "extensions": ["binary_tensor_data"]}
    )


@blueprint.get("/health/live")
def show_live() -> Response:
    """Answer 200, because the process takes requests."""
    return answer_json({"live": True})


@blueprint.get("/health/ready")
def show_ready() -> Response:
    """Answer 200 while the model answers, else 503."""
    ready = find_service().is_ready
    return answer_json({"ready": ready}, 200 if ready else 503)


@blueprint.get(f"{_MODEL}/ready")
@blueprint.get(f"{_VERSION}/ready")
def show_model_ready(version: str | None = None) -> Response:
    """Answer 200 while the model answers, else 503."""
    _check_version(version)
    return show_ready()


@blueprint.get(_MODEL)
@blueprint.get(_VERSION)
def show_model(version: str | None = None) -> Response:
    """Answer with the model's metadata."""
    current = _check_version(version)
    return answer_json(
        {
            "name": NAME,
            "versions": [current.version],
            "platform": "openvino",
            "inputs": [
                {"name": "image", "datatype": "BYTES", "shape": [-1]},
                {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
            ],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": [-1]}
                for name, datatype in OUTPUTS.items()
            ],
            "parameters": {"domain": current.domain, "answer_synthetic": current.is_opened},
        }
    )


@blueprint.post(f"{_MODEL}/infer")
@blueprint.post(f"{_VERSION}/infer")
@require_api_key
def infer(version: str | None = None) -> Response:
    """Answer the images or pixels of one request."""
    # The model whose version was checked answers, even if another model is loaded meanwhile.
    predictor = _check_version(version)
    _check_type()
    body, length = request.get_data(cache=False), request.headers.get(HEADER)
    with _reading():
        infer_request = read_infer_request(body, length, OUTPUTS)
    predictions = _predict(infer_request.sources, predictor)
    # The images of a list share most warnings, so each warning is given only once, in order.
    warnings = list(dict.fromkeys(text for one in predictions for text in one.warnings))
    head: dict[str, Any] = {
        "model_name": NAME,
        "model_version": predictions[0].version,
        "parameters": {"domain": predictions[0].domain, "warnings": warnings},
    }
    if infer_request.id is not None:
        head["id"] = infer_request.id
    outputs: dict[str, list[float] | list[str]] = {
        "probability": [math.nan if p.probability is None else p.probability for p in predictions],
        "prediction": [p.prediction for p in predictions],
        "domain": [p.domain for p in predictions],
    }
    body, header_length = write_infer_response(head, outputs, infer_request.outputs)
    response = Response(body, content_type="application/json")
    if header_length is not None:
        response.headers[HEADER] = str(header_length)
        response.content_type = "application/octet-stream"
    return response


@contextmanager
def _reading() -> Iterator[None]:
    """Let one request be parsed at a time; refuse a request that waits too long for this."""
    if not _READING.acquire(timeout=_READING_WAIT_S):
        raise OverloadedError("Other requests are being read. Try again, or send binary data.")
    try:
        yield
    finally:
        _READING.release()


# The path comes from Triton's model repository extension.
@blueprint.post(f"/repository{_MODEL}/load")
@require_api_key
def load() -> Response:
    """Load the newest version, or the kept version that `parameters.version` names."""
    service = find_service()
    if not service.settings.api_keys:
        raise NotFound("Routes that change the service need CSPINE_API_KEYS to be set.")
    _check_type()
    version = _read_version(request.get_data(cache=False))
    try:
        predictor = service.models.reload(version)
    except ArtifactError:
        # The error's text names folders of this machine.
        raise BadRequest("The version must be kept and valid. The log shows the reason.") from None
    return answer_json({"name": NAME, "version": predictor.version})


def _read_version(body: bytes) -> str | None:
    """Return the version that a load request names; refuse a request with any other key."""
    load_request = parse_json_object(body) if body else {}
    parameters = load_request.get("parameters", {})
    is_known = load_request.keys() <= {"parameters"} and isinstance(parameters, dict)
    version = parameters.get("version") if is_known else None
    named = is_known and parameters.keys() <= {"version"}
    if not named or not isinstance(version, str | None):
        raise BadRequest(
            'The body must be {"parameters": {"version": "<12 hex digits>"}} or empty.'
        )
    return version


def _check_type() -> None:
    """Refuse the content types of browsers' forms; a request without a content type is allowed."""
    if request.mimetype not in ("", "application/json", "application/octet-stream"):
        raise UnsupportedMediaType(
            "`Content-Type` must be application/json or application/octet-stream."
        )


def _check_version(version: str | None) -> Predictor:
    """Return the current predictor; answer 404 if `version` is given and is not its version."""
    current = find_service().models.current
    if version is not None and version != current.version:
        raise NotFound(f"The version that is served is {current.version}.")
    return current


def _predict(sources: tuple[Source, ...], predictor: Predictor) -> list[Prediction]:
    """Return the prediction for each image, or raise the first error."""
    results = find_service().inference.answer_all(sources, False, watch_client(), predictor)
    charge_images(len(results))
    predictions = []
    for result in results:
        if isinstance(result, CspineError):
            raise result
        predictions.append(result)
    return predictions
