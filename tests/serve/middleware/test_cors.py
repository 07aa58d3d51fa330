"""CORS headers, for listed origins only."""

from cspine.core.serve_settings import ServeSettings
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
