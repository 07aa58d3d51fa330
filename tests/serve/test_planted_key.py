"""A key that callers must send is in no answer, log line or text of the service."""

import json
import logging

import pytest

from cspine.core.serve_settings import read_settings
from cspine.serve.app import create_app
from cspine.serve.cli import open_settings
from cspine.serve.telemetry import JsonFormatter

KEY = "planted-9f27c1"
HEADERS = {
    "right": {"X-API-Key": KEY},
    "wrong": {"X-API-Key": f"{KEY}0"},
    "bearer": {"Authorization": f"Bearer {KEY}"},
    "none": {},
}


@pytest.fixture
def app(predictor):
    return create_app(read_settings({"CSPINE_API_KEYS": f"{KEY}, other"}), predictor)


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_a_planted_key_is_in_no_answer_and_no_log_line(app, png, headers, caplog):
    caplog.set_level(logging.DEBUG)
    client = app.test_client()
    paths = {rule.rule for rule in app.url_map.iter_rules() if "<" not in rule.rule}
    answers = [client.get(path, headers=headers) for path in sorted(paths)]
    answers += [client.post(path, data=b"no image", headers=headers) for path in sorted(paths)]
    answers.append(client.post("/predict", data=png, content_type="image/png", headers=headers))
    answers.append(client.post("/predict", json={"url": "ftp://a"}, headers=headers))
    answers.append(client.get("/metrics"))
    assert answers[-1].status_code == 200 and len(paths) > 10
    for answer in answers:
        assert KEY not in answer.text and KEY not in str(answer.headers), answer.request.path
    written = [JsonFormatter().format(record) for record in caplog.records]
    assert KEY not in json.dumps(written) and KEY not in caplog.text


def test_a_planted_key_is_in_no_text_of_the_application(app):
    service = app.extensions["cspine"]
    assert KEY not in f"{service!r} {service.inference!r} {app.config!r}"


def test_a_start_logs_no_key(caplog):
    caplog.set_level(logging.DEBUG)
    environment = {"CSPINE_API_KEYS": KEY, "CSPINE_LOG_LEVEL": "debug"}
    settings = open_settings(environment, lambda **_: None)
    logging.getLogger("cspine").info("%s %r", settings, settings)
    assert settings.api_keys == (KEY,) and caplog.text and KEY not in caplog.text
