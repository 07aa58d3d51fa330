"""API keys, the rate of each, and CORS."""

import io

import pytest

from cspine.core.errors import OverloadedError
from cspine.core.serve_settings import ServeSettings
from cspine.serve.admission import Admission
from cspine.serve.app import create_app
from cspine.serve.middleware.authentication import Keys
from cspine.serve.middleware.rate_limit import Rate


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


def test_a_bucket_fills_with_time():
    now = [0.0]
    rate = Rate(2.0, lambda: now[0])
    assert [rate.take(0) for _ in range(3)] == [0.0, 0.0, 0.5]
    now[0] = 0.5
    assert rate.take(0) == 0.0
    rate.charge(0, 3)
    assert rate.take(0) == 2.0
    free = Rate(None)
    free.charge(0, 99)
    assert free.take(0) == 0.0


def test_keys_are_found_by_their_whole_text():
    # The last is what an environment gives for a byte that is no UTF-8.
    keys = Keys(("alpha", "ключ", "\udcff"))
    # As WSGI gives it: a character for each byte of the header.
    sent = "ключ".encode().decode("latin-1")
    found = [keys.find(one) for one in ("alpha", sent, "alph", "", "ключ", "\xff")]
    assert found == [0, 1, None, None, None, 2]
    assert not Keys(())


def test_cors_is_silent_unless_set(predictor):
    silent = create_app(ServeSettings(), predictor).test_client()
    headers = {"Origin": "https://a.org"}
    assert "Access-Control-Allow-Origin" not in silent.get("/health/live", headers=headers).headers
    app = create_app(ServeSettings(cors_origins=("https://a.org",), api_keys=("k",)), predictor)
    asked = app.test_client().options("/predict", headers=headers)
    assert asked.headers["Access-Control-Allow-Origin"] == "https://a.org"
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    other = app.test_client().get("/health/live", headers={"Origin": "https://b.org"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_admission_counts_its_places():
    admission = Admission(1)
    with admission.place():
        assert admission.is_full
        with pytest.raises(OverloadedError, match="Try again"), admission.place():
            pass
    assert admission.taken == 0
    admission.close()
    with pytest.raises(OverloadedError, match="stopping"), admission.place():
        pass
