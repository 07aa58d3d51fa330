"""The Open Inference Protocol: the public tritonclient works unchanged, and bad tensors are 400."""

import base64
import io

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from cspine.core.serve_settings import ServeSettings
from cspine.serve.app import create_app
from cspine.serve.hot_reload import ModelManager
from cspine.serve.routes import v2 as protocol_v2
from cspine.serve.routes.v2 import OUTPUTS
from support.service_fakes import FakePredictor, make_png

URL = "/v2/models/cspine/infer"


@pytest.fixture
def triton_client(app, serve_app):
    client = triton.InferenceServerClient(f"127.0.0.1:{serve_app(app).port}")
    yield client
    client.close()


def bytes_input(*images: bytes) -> triton.InferInput:
    tensor = triton.InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, object), binary_data=True)
    return tensor


def test_the_public_client_reads_health_and_metadata(triton_client):
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready("cspine")
    assert triton_client.get_server_metadata()["name"] == "cspine"
    metadata = triton_client.get_model_metadata("cspine")
    assert metadata["versions"] == ["0123456789ab"]
    assert [one["name"] for one in metadata["inputs"]] == ["image", "pixels"]


@pytest.mark.parametrize("binary", [True, False])
def test_the_public_client_infers_from_files(triton_client, binary):
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
    result = triton_client.infer(
        "cspine", [bytes_input(make_png(200), make_png(20))], outputs=outputs, request_id="7"
    )
    np.testing.assert_allclose(result.as_numpy("probability"), [200 / 255, 20 / 255], rtol=1e-6)
    words = [word.decode() if binary else word for word in result.as_numpy("prediction")]
    assert [str(word) for word in words] == ["fracture", "normal"]
    assert result.get_response()["id"] == "7"


def test_the_public_client_infers_from_pixels(triton_client):
    pixels = np.full((2, 70, 64, 3), 255, np.uint8)
    tensor = triton.InferInput("pixels", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=True)
    result = triton_client.infer("cspine", [tensor])
    np.testing.assert_array_equal(result.as_numpy("probability"), np.ones(2, np.float32))


def test_the_public_client_is_told_what_is_wrong(triton_client):
    with pytest.raises(InferenceServerException, match="PNG, JPEG or DICOM"):
        triton_client.infer("cspine", [bytes_input(b"no image")])
    with pytest.raises(InferenceServerException, match="version that is served"):
        triton_client.infer("cspine", [bytes_input(make_png())], model_version="ffffffffffff")


def test_json_alone_works(client):
    image = base64.b64encode(make_png(200)).decode()
    one = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [image]}
    answer = client.post(URL, json={"inputs": [one]}).json
    assert answer["outputs"][1] == {
        "name": "prediction",
        "datatype": "BYTES",
        "shape": [1],
        "data": ["fracture"],
    }
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [[[[9, 9, 9]]]]}
    assert client.post(URL, json={"inputs": [pixels]}).json["outputs"][0]["shape"] == [1]


def tensor(**changes) -> dict:
    return {
        "name": "pixels",
        "datatype": "UINT8",
        "shape": [1, 1, 1, 3],
        "data": [1, 2, 3],
    } | changes


BAD = [
    {},
    {"inputs": []},
    {"inputs": [1]},
    {"inputs": [tensor(), tensor()]},
    *(
        {"inputs": [tensor(**changes)]}
        for changes in (
            {"name": "other"},
            {"datatype": "FP32"},
            {"shape": []},
            {"shape": [1, 1, 1, 4]},
            {"shape": [-1, 1, 1, 3]},
            {"shape": [1, 1, 10**9, 3]},
            {"shape": [65, 1, 1, 3]},
            {"shape": "1"},
            {"data": [1, 2]},
            {"data": [1, 2, 300]},
            {"data": [1, 2, -1]},
            {"data": [1, 2, 1.5]},
            {"data": [[1], [2, 3]]},
            {"data": "abc"},
            {"data": None},
            {"parameters": {"binary_data_size": 5}},
            {"parameters": {"binary_data_size": "x"}},
        )
    ),
    {"inputs": [tensor()], "outputs": [{"name": "other"}]},
    {"inputs": [tensor()], "outputs": [1]},
    {"inputs": [tensor()], "id": "x" * 257},
    {"inputs": [tensor()], "id": 7},
    {"inputs": [tensor(name="image", datatype="BYTES", shape=[1], data=[1])]},
    {"inputs": [tensor(name="image", datatype="BYTES", shape=[2], data=["aaaa"])]},
]


@pytest.mark.parametrize("body", BAD)
def test_a_bad_request_is_a_400(client, body):
    response = client.post(URL, json=body)
    assert response.status_code == 400
    assert response.json["error"] == response.json["detail"]


def test_a_file_with_the_bytes_that_stand_for_pixels_is_no_image(client):
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 2, 3], "data": [9] * 6}
    assert client.post(URL, json={"inputs": [pixels]}).status_code == 200
    data = b"pixels (1, 2, 3)" + bytes([9] * 6)
    response = client.post("/predict", data=data, content_type="image/png")
    assert response.status_code == 415


def test_equal_pixels_are_computed_once(client, predictor):
    one = {"name": "pixels", "datatype": "UINT8", "shape": [4, 1, 2, 3], "data": [9] * 24}
    assert client.post(URL, json={"inputs": [one]}).json["outputs"][0]["shape"] == [4]
    assert predictor.calls == 1
    # As many bytes, and another picture.
    client.post(URL, json={"inputs": [{**one, "shape": [4, 2, 1, 3]}]})
    assert predictor.calls == 2


def test_load_needs_keys_swaps_and_rolls_back():
    loaded = []

    def load(version):
        loaded.append(version)
        return FakePredictor(version or "b" * 12)

    settings_ = ServeSettings(api_keys=("key",))
    app = create_app(settings_, ModelManager(FakePredictor("a" * 12), load))
    client, path = app.test_client(), "/v2/repository/models/cspine/load"
    headers = {"X-API-Key": "key"}
    assert client.post(path).status_code == 401
    assert client.post(path, headers=headers).json["version"] == "b" * 12
    body = {"parameters": {"version": "c" * 12}}
    assert client.post(path, headers=headers, json=body).json["version"] == "c" * 12
    assert client.get("/v2/models/cspine").json["versions"] == ["c" * 12]
    for wrong in ({"version": "d" * 12}, {"parameters": {"Version": "d" * 12}}, {"parameters": 1}):
        assert client.post(path, headers=headers, json=wrong).status_code == 400
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        sent = client.post(path, headers=headers, data="{}", content_type=kind)
        assert sent.status_code == 415
    assert loaded == [None, "c" * 12]
    assert create_app(ServeSettings(), FakePredictor()).test_client().post(path).status_code == 404


def test_a_png_is_what_it_seems():
    assert np.asarray(Image.open(io.BytesIO(make_png(200, 64)))).shape == (64, 64)


def test_who_waits_long_for_the_reader_is_told_to_come_again(client, monkeypatch):
    monkeypatch.setattr(protocol_v2, "_READING_WAIT_S", 0.05)
    with protocol_v2._READING:
        response = client.post(URL, json={"inputs": []})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert client.post(URL, json={"inputs": []}).status_code == 400


def test_too_many_numbers_in_text_are_refused(client):
    body = b'{"inputs": [' + b"1," * 2_000_001 + b"1]}"
    assert client.post(URL, data=body, content_type="application/json").status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/v2/models/cspine/config"),
        ("get", "/v2/models/cspine/stats"),
        ("post", "/v2/repository/index"),
        ("get", "/v2/models/other"),
    ],
)
def test_a_route_that_is_not_there_is_a_protocol_error(client, method, path):
    response = getattr(client, method)(path)
    assert response.status_code == 404
    assert response.json["error"].startswith("A route must be one of /openapi.json. Received: '/v2")


def test_a_wrong_method_names_the_right_ones(client):
    response = client.put("/v2")
    assert response.status_code == 405
    expected = "The method must be one of GET, HEAD, OPTIONS. Received: 'PUT'"
    assert response.json["error"] == expected
