"""API keys, and the rate of each."""

import io

import pytest

from cspine.core.serve_settings import ServeSettings
from cspine.serve.app import create_app
from cspine.serve.middleware.authentication import Keys


def post(app, png, **headers):
    return app.test_client().post("/predict", data=png, content_type="image/png", headers=headers)


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": "Bearer b"},
        {"Authorization": "bearer b"},
        {"X-API-Key": "b"},
    ],
)
def test_a_key_opens_where_keys_are_set(predictor, png, header):
    app = create_app(ServeSettings(api_keys=("a", "b")), predictor)
    assert post(app, png, **header).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"X-API-Key": "c"},
        {"Authorization": "Bearer ab"},
        {"Authorization": "b"},
    ],
)
def test_without_a_key_of_ours_the_answer_is_401(predictor, png, header):
    app = create_app(ServeSettings(api_keys=("a", "b")), predictor)
    response = post(app, png, **header)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert app.test_client().get("/health/ready").status_code == 200


def test_a_key_has_its_own_rate(predictor, png):
    app = create_app(ServeSettings(api_keys=("a", "b"), rate_per_key=0.01), predictor)
    assert post(app, png, **{"X-API-Key": "a"}).status_code == 200
    refused = post(app, png, **{"X-API-Key": "a"})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 100
    assert post(app, png, **{"X-API-Key": "b"}).status_code == 200


def test_each_image_of_a_list_counts(predictor, png):
    app = create_app(ServeSettings(api_keys=("a",), rate_per_key=0.1), predictor)
    client, key = app.test_client(), {"X-API-Key": "a"}
    data = {"file": [(io.BytesIO(png), f"{number}.png") for number in range(8)]}
    assert client.post("/predict", data=data, headers=key).status_code == 200
    refused = client.post("/predict", data=png, content_type="image/png", headers=key)
    assert refused.status_code == 429
    # Ten seconds for each of the eight, but for what has passed.
    assert 70 < int(refused.headers["Retry-After"]) <= 80


def test_a_list_that_a_full_service_refuses_costs_one(predictor, png):
    settings = ServeSettings(api_keys=("a",), rate_per_key=2.0, max_queue=1)
    app = create_app(settings, predictor)
    data = {"file": [(io.BytesIO(png), f"{number}.png") for number in range(8)]}
    with app.extensions["cspine"].inference.admission.place():
        refused = app.test_client().post("/predict", data=data, headers={"X-API-Key": "a"})
    assert refused.status_code == 503
    assert post(app, png, **{"X-API-Key": "a"}).status_code == 200


def test_keys_are_found_by_their_whole_text():
    # The last is what an environment gives for a byte that is no UTF-8.
    keys = Keys(("alpha", "ключ", "\udcff"))
    # As WSGI gives it: a character for each byte of the header.
    sent = "ключ".encode().decode("latin-1")
    found = [keys.find(one) for one in ("alpha", sent, "alph", "", "ключ", "\xff")]
    assert found == [0, 1, None, None, None, 2]
    assert not Keys(())
