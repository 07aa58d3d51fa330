"""POST /predict: a picture or its URL in, the answer out; several in, a result for each."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from cspine.core.errors import CspineError
from cspine.predict.prediction import Prediction
from cspine.serve.app_state import find_service, watch_client
from cspine.serve.errors import describe_error, log_if_ours, status_of
from cspine.serve.middleware.authentication import charge_images, require_api_key
from cspine.serve.schemas.requests import PredictRequest, read_predict_request
from cspine.serve.schemas.responses import answer_json

blueprint = Blueprint("predict", __name__)


@blueprint.post("/predict")
@require_api_key
def predict() -> Response:
    """Answer one image with its prediction, or several with `{"results": […]}` in their order."""
    question = read_predict_request(request)
    inference, is_wanted = find_service().inference, watch_client()
    if not question.is_batch:
        prediction = inference.answer(question.sources[0], bool(question.explain), is_wanted)
        return answer_json(_describe(prediction, question))
    results = inference.answer_all(question.sources, bool(question.explain), is_wanted)
    charge_images(len(results))
    return answer_json({"results": [_describe_item(result, question) for result in results]})


def _describe_item(result: Prediction | CspineError, question: PredictRequest) -> dict[str, Any]:
    if isinstance(result, CspineError):
        status = status_of(result)
        log_if_ours(result, status)
        return {"error": describe_error(result, status)}
    return _describe(result, question)


def _describe(prediction: Prediction, question: PredictRequest) -> dict[str, Any]:
    return prediction.to_dict(question.explain)
