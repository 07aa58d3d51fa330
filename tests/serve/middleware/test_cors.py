"""CORS headers, for listed origins only."""

import pytest

from cspine.core.errors import ConfigError
from cspine.core.serve_settings import ServeSettings, read_settings
from cspine.serve.app import create_app


def test_cors_is_silent_unless_set(predictor):
    silent = create_app(ServeSettings(), predictor).test_client()
    headers = {"Origin": "https://a.org"}
    assert "Access-Control-Allow-Origin" not in silent.get("/health/live", headers=headers).headers
    app = create_app(ServeSettings(cors_origins=("https://a.org",), api_keys=("k",)), predictor)
    preflight = app.test_client().options("/predict", headers=headers)
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://a.org"
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    other = app.test_client().get("/health/live", headers={"Origin": "https://b.org"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_a_star_allows_every_origin(predictor):
    client = create_app(ServeSettings(cors_origins=("*",)), predictor).test_client()
    answer = client.get("/health/live", headers={"Origin": "https://any.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://any.example"


@pytest.mark.parametrize(
    "origin",
    ["*", "https://a.org", "http://localhost:8080", "http://127.0.0.1:3000", "http://[::1]:80"],
)
def test_origins_that_browsers_send_are_taken(origin):
    assert read_settings({"CSPINE_CORS_ORIGINS": origin}).cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.org/",
        "a.org",
        "https://a.org/viewer",
        "HTTPS://a.org",
        "https://A.org",
        "https://a.org:443",
        "http://a.org:80",
        "ftp://a.org",
        "null",
        "https://*.a.org",
    ],
)
def test_origins_that_never_match_are_refused_with_what_to_write(origin):
    with pytest.raises(ConfigError, match=r"CSPINE_CORS_ORIGINS.* such as https://viewer"):
        read_settings({"CSPINE_CORS_ORIGINS": origin})
