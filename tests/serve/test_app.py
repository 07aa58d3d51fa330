"""The HTTP contract: inputs, answers, errors, headers; document and routes held together."""

import base64
import io
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cspine.core import errors
from cspine.core.errors import FetchTimeoutError
from cspine.core.serve_settings import ServeSettings
from cspine.fetch.fetcher import Fetcher
from cspine.serve import inference_service as inference
from cspine.serve.app import create_app
from cspine.serve.errors import status_of
from cspine.serve.hot_reload import ModelManager
from cspine.serve.telemetry import Metrics
from support.service_fakes import FakePredictor, make_png
from support.waiting import wait_for

ANSWER_KEYS = {
    "prediction",
    "probability",
    "threshold",
    "in_distribution",
    "region",
    "model",
    "warnings",
}


def upload(*pictures: bytes) -> dict:
    return {"file": [(io.BytesIO(data), f"{i}.png") for i, data in enumerate(pictures)]}


FORMS = "raw json lines data-url multipart image-field octets untyped curl-default".split()


@pytest.mark.parametrize("form", FORMS)
def test_one_image_in_every_form(client, png, form):
    text, lines = base64.b64encode(png).decode(), base64.encodebytes(png).decode()
    response = {
        "raw": lambda: client.post("/predict", data=png, content_type="image/png"),
        "octets": lambda: client.post(
            "/predict", data=png, content_type="application/octet-stream"
        ),
        "json": lambda: client.post("/predict", json={"image": text}),
        "lines": lambda: client.post("/predict", json={"image": f" {lines}"}),
        "untyped": lambda: client.post("/predict", data=png),
        "curl-default": lambda: client.post(
            "/predict", data=png, content_type="application/x-www-form-urlencoded"
        ),
        "image-field": lambda: client.post("/predict", data={"image": upload(png)["file"]}),
        "data-url": lambda: client.post(
            "/predict", json={"image": f"data:image/png;base64,{text}"}
        ),
        "multipart": lambda: client.post("/predict", data=upload(png)),
    }[form]()
    assert response.status_code == 200
    assert set(response.json) == ANSWER_KEYS
    assert response.json["prediction"] == "fracture"
    assert response.json["region"] == [0, 0, 64, 64]
    assert response.json["model"] == {
        "architecture": "cnn",
        "version": "0123456789ab",
        "domain": "real",
    }


def test_explanations_are_pictures_of_the_source_size(client, png):
    plain = client.post("/predict?explain=heatmap", data=png, content_type="image/png").json
    assert set(plain) == ANSWER_KEYS | {"heatmap"}
    both = client.post("/predict?explain=heatmap,image", data=png, content_type="image/png").json
    for name in ("heatmap", "image"):
        assert base64.b64decode(both[name])[16:24] == bytes.fromhex("0000004000000040")


def test_several_images_are_answered_item_by_item(client, png):
    response = client.post("/predict", data=upload(png, b"no image", make_png(20)))
    assert response.status_code == 200
    first, second, third = response.json["results"]
    assert (first["prediction"], third["prediction"]) == ("fracture", "normal")
    assert second["error"]["status"] == 415
    named = [(one["index"], one["name"]) for one in response.json["results"]]
    assert named == [(0, "0.png"), (1, "1.png"), (2, "2.png")]


def test_several_urls_are_answered_item_by_item(client):
    response = client.post("/predict", json={"urls": ["http://127.0.0.1/", "ftp://x"]})
    assert [item["error"]["status"] for item in response.json["results"]] == [403, 403]
    assert [item["index"] for item in response.json["results"]] == [0, 1]


def test_slow_servers_hold_no_list_of_uploads(app, client, png, monkeypatch):
    slow = threading.Event()

    def wait(*_: object) -> bytes:
        slow.wait(30)
        return png

    monkeypatch.setattr(Fetcher, "fetch", wait)
    with ThreadPoolExecutor() as pool:
        ask = {"urls": ["http://a.example/"] * 64}
        fetched = pool.submit(lambda: app.test_client().post("/predict", json=ask))
        wait_for(lambda: app.extensions["cspine"].inference.admission.taken == 1)
        answers = client.post("/predict", data=upload(png, png)).json["results"]
        assert not fetched.done()
        slow.set()
    assert [one["prediction"] for one in answers] == ["fracture"] * 2
    assert [one["prediction"] for one in fetched.result().json["results"]] == ["fracture"] * 64


PROBLEMS = [
    (b"{", "application/json", 400),
    (b"[]", "application/json", 400),
    (b"{}", "application/json", 400),
    (b'{"url": 1}', "application/json", 400),
    (b'{"url": "http://a.org", "image": ""}', "application/json", 400),
    (b'{"urls": []}', "application/json", 400),
    (b'{"urls": [1]}', "application/json", 400),
    (b'{"urls": [' + b'"",' * 10_000 + b'""]}', "application/json", 400),
    (b'{"urls": [' + b"1.5," * 10_000 + b"1]}", "application/json", 400),
    (b"[" * 100_000, "application/json", 400),
    (b'{"a":' * 999, "application/json", 400),
    (b'{"url": "http://127.0.0.1/"}', "application/json", 403),
    (b'{"url": "file:///etc/passwd"}', "application/json", 403),
    (b'{"image": "%%%"}', "application/json", 422),
    (b'{"image": ""}', "application/json", 422),
    (b"text", "text/plain", 415),
    (b"a=b", "application/x-www-form-urlencoded", 415),
    (b"text", "image/png", 415),
    (make_png()[:-20], "image/png", 422),
    (b"", "image/png", 422),
    (b"", "multipart/form-data; boundary=x", 400),
    (b"", "multipart/form-data", 400),
    (b"\xff\xfe", "application/json", 400),
    (b'{"url": "\xed\xa0\x80"}', "application/json", 403),
]


@pytest.mark.parametrize(("body", "kind", "status"), PROBLEMS)
def test_a_bad_request_is_a_problem_document(client, body, kind, status):
    response = client.post("/predict", data=body, content_type=kind)
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert set(response.json) == {"type", "title", "status", "detail", "request_id"}
    assert response.json["status"] == status


FORM_FAULTS = [
    (b"x", "multipart/form-data", "must name its boundary"),
    (b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx.png\r\n--b--',
     "multipart/form-data; boundary=b", "with the `@`"),
    (b'--b\r\nContent-Disposition: form-data; name="upload"; filename="x"\r\n\r\nx\r\n--b--',
     "multipart/form-data; boundary=b", "Received: 'upload'"),
    (b"", "multipart/form-data; boundary=b", "Received: no field"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "said"), FORM_FAULTS)
def test_a_form_that_lacks_its_file_is_told_what_came(client, body, kind, said):
    response = client.post("/predict", data=body, content_type=kind)
    assert response.status_code == 400
    assert said in response.json["detail"]


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded", "text/plain"])
def test_a_body_of_no_stated_type_is_never_read_as_json(client, kind):
    body = b'{"url": "https://example.org/a.png"}'
    response = client.post("/predict", data=body, content_type=kind)
    assert response.status_code == 415
    assert "application/json" in response.json["detail"]


def test_health_answers_as_ready_and_head_wherever_get_does(client):
    assert client.get("/health").json == client.get("/health/ready").json
    for path in ("/", "/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.data) == (got.status_code, b"")
        assert head.content_type == got.content_type


def test_a_compressed_body_is_told_from_an_unreadable_picture(client):
    for path in ("/predict", "/v2/models/cspine/infer"):
        response = client.post(path, data=b"x", headers={"Content-Encoding": "gzip"})
        assert response.status_code == 415 and "`Content-Encoding`" in response.json["detail"]


def test_too_many_and_too_large(predictor):
    app = create_app(ServeSettings(max_bytes=2000), predictor)
    urls = {"urls": ["http://a.org"] * 65}
    assert app.test_client().post("/predict", json=urls).status_code == 400
    body = b"x" * 3_000_000
    response = app.test_client().post("/predict", data=body, content_type="image/png")
    assert (response.status_code, response.json["status"]) == (413, 413)


def test_routes_that_are_not_there(client):
    assert client.get("/nothing").json["status"] == 404
    response = client.get("/predict")
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


def test_a_defect_says_nothing_of_its_inside(client, predictor, png, caplog):
    predictor.predict = lambda *_: 1 / 0
    response = client.post("/predict", data=png, content_type="image/png")
    assert response.status_code == 500
    assert "division" not in response.text
    assert "division by zero" in caplog.text


def test_a_full_service_says_so_at_once(app, client, png):
    admission = app.extensions["cspine"].inference.admission
    with admission.place(), admission.place(), admission.place(), admission.place():
        response = client.post("/predict", data=png, content_type="image/png")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert client.post("/predict", data=png, content_type="image/png").status_code == 200


def test_a_late_prediction_is_an_overload(predictor, png):
    predictor.predict = lambda data, explain, budget: budget.remaining_s() or 1 / 0
    app = create_app(ServeSettings(deadline_s=1e-9), predictor)
    response = app.test_client().post("/predict", data=png, content_type="image/png")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


def test_a_list_has_one_deadline(predictor, png):
    ends, ask = set(), predictor.predict

    def predict(data, explain, deadline):
        ends.add(deadline.due_s)
        if data != png:
            threading.Event().wait(deadline.left_s())
        return ask(data, explain, deadline)

    predictor.predict = predict
    app = create_app(ServeSettings(deadline_s=2.0, cache=False), predictor)
    response = app.test_client().post("/predict", data=upload(png, *[make_png(20)] * 63))
    assert len(ends) == 1
    assert response.json["results"][0]["prediction"] == "fracture"
    assert response.json["results"][-1]["error"]["status"] == 503


def test_the_pictures_of_a_list_have_a_bound(client, png, monkeypatch):
    # Room for both pictures of two of these images of 64 × 64 pixels.
    monkeypatch.setattr(inference, "MAX_PICTURE_BYTES", 4 * 64 * 64)
    response = client.post("/predict?explain=heatmap,image", data=upload(*[png] * 4))
    results = response.json["results"]
    assert sum("heatmap" in one and "image" in one for one in results) == 2
    assert sum(inference.NO_ROOM in one["warnings"] for one in results) == 2
    assert all(one["prediction"] == "fracture" for one in results)


def test_a_vanished_client_is_not_worked_for(client, predictor, png):
    response = client.post(
        "/predict",
        data=png,
        content_type="image/png",
        environ_overrides={"waitress.client_disconnected": lambda: True},
    )
    assert response.status_code == 499
    assert predictor.calls == 0


def test_a_fetch_that_fails_after_its_client_left_is_no_answer(settings, predictor):
    left = []

    class Slow:
        def fetch(self, url, timeout_s):
            left.append(1)
            raise FetchTimeoutError("late")

    app = create_app(settings, predictor, Slow())
    response = app.test_client().post(
        "/predict",
        json={"url": "http://a.org/b.png"},
        environ_overrides={"waitress.client_disconnected": lambda: bool(left)},
    )
    assert response.status_code == 499


def all_errors(kind=errors.CspineError):
    return [kind, *(one for sub in kind.__subclasses__() for one in all_errors(sub))]


def test_every_error_has_a_status():
    known = [kind for kind in all_errors() if kind.__module__ == "cspine.core.errors"]
    assert len(known) >= 12
    for kind in known:
        assert 400 <= status_of(kind("text")) <= 503


def test_every_answer_carries_its_id_and_its_guards(client):
    response = client.get("/health/live", headers={"X-Request-ID": "abc-1"})
    assert response.headers["X-Request-ID"] == "abc-1"
    strange = client.get("/health/live", headers={"X-Request-ID": "a b{}"})
    assert re.fullmatch("[0-9a-f]{32}", strange.headers["X-Request-ID"])
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_health_and_metrics(client, png):
    client.post("/predict", data=png, content_type="image/png")
    assert client.get("/health/ready").json["model"]["version"] == "0123456789ab"
    text = client.get("/metrics").text
    assert 'cspine_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'cspine_decisions_total{prediction="fracture"} 1.0' in text
    assert 'cspine_in_distribution_total{in_distribution="true"} 1.0' in text
    assert (
        'cspine_model_info{architecture="cnn",precision="f32",version="0123456789ab"} 1.0' in text
    )


def test_every_stage_the_queue_and_the_process_are_told(client, png):
    client.post("/predict", data=png, content_type="image/png")
    text = client.get("/metrics").text
    for stage in ("fetch", "slot", "decode", "queue", "inference", "total"):
        assert f'cspine_stage_seconds_count{{stage="{stage}"}}' in text
    assert 'cspine_stage_seconds_count{stage="total"} 1.0' in text
    assert "cspine_queue_depth 0.0" in text
    assert "process_resident_memory_bytes" in text


def test_a_refused_model_is_counted():
    def refuse(version):
        raise errors.ArtifactError("damaged")

    metrics = Metrics()
    holder = ModelManager(FakePredictor(), refuse, on_refusal=metrics.count_refused_model)
    client = create_app(ServeSettings(), holder, metrics=metrics).test_client()
    with pytest.raises(errors.ArtifactError):
        holder.reload()
    assert 'cspine_reloads_total{result="refused"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize("cache", [True, False])
def test_identical_images_in_flight_are_computed_once(predictor, png, cache):
    app = create_app(ServeSettings(cache=cache), predictor)
    predictor.hold.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [
            pool.submit(app.test_client().post, "/predict", data=png, content_type="image/png")
            for _ in range(4)
        ]
        wait_for(lambda: app.extensions["cspine"].inference.admission.taken == 4)
        # From its place each has a few lines to go to the one in flight.
        time.sleep(0.1)
        predictor.hold.set()
        assert {one.result().status_code for one in answers} == {200}
    assert predictor.calls == 1


def test_metrics_leave_the_main_listener_where_they_have_their_own():
    app = create_app(ServeSettings(metrics_listen=("127.0.0.1", 9)), FakePredictor())
    assert app.test_client().get("/metrics").status_code == 404


def test_the_log_line_is_json_and_names_the_route(app, png, caplog):
    from cspine.serve.telemetry import JsonFormatter

    with caplog.at_level("INFO", "cspine.access"):
        app.test_client().get("/v2/models/cspine/versions/secret?name=secret")
    line = json.loads(JsonFormatter().format(caplog.records[-1]))
    assert line["route"] == "/v2/models/cspine/versions/<version>"
    assert (line["method"], line["status"]) == ("GET", 404)
    assert "secret" not in json.dumps(line)
