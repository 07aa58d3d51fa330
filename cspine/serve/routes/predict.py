"""POST /predict: predictions for one or several images, sent as files or as URLs."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from cspine.core.errors import CspineError
from cspine.predict.prediction import Prediction
from cspine.serve.app_state import find_service, watch_client
from cspine.serve.errors import describe_error, log_if_ours, status_of
from cspine.serve.middleware.authentication import charge_images, require_api_key
from cspine.serve.schemas.requests import InlineImage, Source, read_predict_request
from cspine.serve.schemas.responses import answer_json

blueprint = Blueprint("predict", __name__)


@blueprint.post("/predict")
@require_api_key
def predict() -> Response:
    """Answer one image with its prediction, or a list with `{"results": […]}` in its order."""
    predict_request = read_predict_request(request)
    sources, explain = predict_request.sources, predict_request.explain
    inference, is_wanted = find_service().inference, watch_client()
    if not predict_request.is_batch:
        return answer_json(inference.answer(sources[0], bool(explain), is_wanted).to_dict(explain))
    results = inference.answer_all(sources, bool(explain), is_wanted)
    charge_images(len(results))
    pairs = enumerate(zip(sources, results, strict=True))
    return answer_json({"results": [_describe(n, *pair, explain) for n, pair in pairs]})


def _describe(
    index: int, source: Source, result: Prediction | CspineError, explain: frozenset[str]
) -> dict[str, Any]:
    """Return one result of a list, with its position and, if it was a file, its name."""
    named: dict[str, Any] = {"index": index}
    if isinstance(source, InlineImage) and source.name is not None:
        named["name"] = source.name
    if isinstance(result, CspineError):
        status = status_of(result)
        log_if_ours(result, status)
        return {**named, "error": describe_error(result, status)}
    return {**named, **result.to_dict(explain)}
