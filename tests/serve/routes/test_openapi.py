"""The OpenAPI document: valid, complete, with examples that are what the service answers."""

import re

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

import cspine
from cspine.core.labels import CLASS_NAMES, DOMAINS, MEDICAL_NOTICE, UNCERTAIN, UNKNOWN_DOMAIN
from cspine.core.serve_settings import ServeSettings
from cspine.predict.predictor import Predictor
from cspine.serve.app import create_app
from cspine.serve.routes.openapi import build_document
from cspine.serve.schemas.requests import EXPLANATIONS, MAX_ITEMS, RAW_TYPES

DOCUMENT = build_document(ServeSettings())
OPERATIONS = {
    (path, method): operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}
each_operation = pytest.mark.parametrize(
    "operation", OPERATIONS.values(), ids=lambda operation: operation["operationId"]
)


def resolve(part):
    """The part itself, where the document only refers to it."""
    if "$ref" not in part:
        return part
    found = DOCUMENT
    for key in part["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return found


def list_examples(part):
    """The examples of a media type, a parameter or a header, by name."""
    if "example" in part:
        return {"example": part["example"]}
    return {name: one["value"] for name, one in part.get("examples", {}).items()}


def list_described(operation):
    """Every part of an operation that has a schema: parameters, bodies and headers."""
    yield from map(resolve, operation.get("parameters", []))
    messages = [resolve(one) for one in operation["responses"].values()]
    if "requestBody" in operation:
        messages.append(resolve(operation["requestBody"]))
    for message in messages:
        assert message["description"]
        yield from message["content"].values()
        yield from message.get("headers", {}).values()


def test_the_document_knows_the_limits_and_words_of_the_code():
    predict = OPERATIONS["/predict", "post"]
    assert predict["parameters"][0]["schema"]["items"]["enum"] == list(EXPLANATIONS)
    assert set(RAW_TYPES) < predict["requestBody"]["content"].keys()
    schemas = DOCUMENT["components"]["schemas"]
    request, prediction = schemas["PredictRequest"], schemas["Prediction"]
    assert request["oneOf"][2]["properties"]["urls"]["maxItems"] == MAX_ITEMS
    assert prediction["properties"]["prediction"]["enum"] == [*CLASS_NAMES, UNCERTAIN]
    domain = prediction["properties"]["model"]["properties"]["domain"]
    assert domain["enum"] == [*DOMAINS, UNKNOWN_DOMAIN]
    assert DOCUMENT["info"]["description"] == MEDICAL_NOTICE


def test_the_document_is_valid_and_knows_every_route(app):
    validate(DOCUMENT)
    routes = {
        (re.sub(r"<(?:[^:<>]*:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert routes == OPERATIONS.keys()


def test_what_is_served_holds_this_instances_version_path_and_limits(predictor):
    settings = ServeSettings(max_bytes=54321, max_pixels=98765, max_queue=3, deadline_s=7.5)
    client = create_app(settings, predictor).test_client()
    root = client.get("/openapi.json")
    assert (root.json["info"]["version"], root.json["servers"][0]["url"]) == (
        cspine.__version__,
        "/",
    )
    assert all(f"{limit} " in root.text for limit in (MAX_ITEMS, 54321, 98765, 3, 7.5))
    mounted = client.get("/openapi.json", environ_overrides={"SCRIPT_NAME": "/spine"}).json
    assert mounted["servers"][0]["url"] == "/spine"
    assert re.search("%[a-z_]+%", root.text) is None


@each_operation
def test_every_operation_is_described(operation):
    assert operation["summary"] and operation["description"]
    known = {tag["name"] for tag in DOCUMENT["tags"]}
    assert operation["tags"] and set(operation["tags"]) <= known


@each_operation
def test_every_example_is_of_its_own_schema(operation):
    for part in list_described(operation):
        examples = list_examples(part)
        assert examples
        for example in examples.values():
            # Beside the components, to which it may refer.
            schema = {"components": DOCUMENT["components"], **part["schema"]}
            Draft202012Validator(schema).validate(example)


def find_shape(value):
    """The types of a JSON value, of a list those of its first item."""
    if isinstance(value, dict):
        return {name: find_shape(one) for name, one in value.items()}
    return [find_shape(one) for one in value[:1]] if isinstance(value, list) else type(value)


def test_the_examples_of_predictions_have_the_shape_of_real_answers(tiny_models, neck_png):
    real = create_app(ServeSettings(), Predictor.load(tiny_models, "f32", 1)).test_client()
    content = OPERATIONS["/predict", "post"]["responses"]["200"]["content"]
    examples = list_examples(content["application/json"])
    plain = real.post("/predict", data=neck_png, content_type="image/png").json
    assert find_shape(examples["one_image"]) == find_shape(plain)
    mapped = real.post("/predict?explain=heatmap", data=neck_png, content_type="image/png").json
    assert find_shape(examples["with_a_heat_map"]) == find_shape(mapped)
    bodies = {"urls": ["ftp://a", "ftp://b"]}
    refused = real.post("/predict", json=bodies).json["results"][0]
    assert find_shape(examples["several_images"]["results"][1]) == find_shape(refused)
    assert examples["no_vertebra"].keys() == plain.keys()


def test_the_examples_of_errors_and_of_protocol_v2_have_the_shape_of_real_answers(client):
    responses = DOCUMENT["components"]["responses"]
    problem = client.post("/predict", json={}).json
    for response in responses.values():
        for media, part in response["content"].items():
            if media == "application/problem+json":
                assert find_shape(part["example"]) == find_shape(problem)
    infer = OPERATIONS["/v2/models/cspine/infer", "post"]
    bodies = list_examples(resolve(infer["requestBody"])["content"]["application/json"])
    answer = client.post("/v2/models/cspine/infer", json=bodies["image"])
    assert answer.status_code == 200
    example = responses["V2Infer"]["content"]["application/json"]["example"]
    assert find_shape(example) == find_shape(answer.json)
    assert client.post("/v2/models/cspine/infer", json=bodies["pixels"]).status_code == 200
    metadata = responses["V2Model"]["content"]["application/json"]["example"]
    assert find_shape(metadata) == find_shape(client.get("/v2/models/cspine").json)
