"""POST /predict: a picture or its URL in, the answer out; several in, a result for each."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from cspine.core.errors import CspineError
from cspine.predict.prediction import Prediction
from cspine.serve.answers import answer_json
from cspine.serve.gate import charge_images, guarded
from cspine.serve.inputs import Question, read_question
from cspine.serve.problems import describe_error, log_if_ours, status_of
from cspine.serve.service import find_service, watch_client
from cspine.serve.statuses import STATUSES

blueprint = Blueprint("predict", __name__)


@blueprint.post("/predict")
@guarded
def predict() -> Response:
    """Answer one image with its prediction, or several with `{"results": […]}` in their order."""
    question = read_question(request)
    road, is_wanted = find_service().road, watch_client()
    if not question.is_batch:
        prediction = road.answer(question.sources[0], bool(question.explain), is_wanted)
        return answer_json(_describe(prediction, question))
    results = road.answer_all(question.sources, bool(question.explain), is_wanted)
    charge_images(len(results))
    return answer_json({"results": [_describe_item(result, question) for result in results]})


def _describe_item(result: Prediction | CspineError, question: Question) -> dict[str, Any]:
    if isinstance(result, CspineError):
        status = status_of(result, STATUSES)
        log_if_ours(result, status)
        return {"error": describe_error(result, status)}
    return _describe(result, question)


def _describe(prediction: Prediction, question: Question) -> dict[str, Any]:
    return prediction.to_dict(question.explain)
