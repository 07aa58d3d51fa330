"""What readiness says while predictions fail, and that it says otherwise once they do not."""

import errno
import io

import pytest

from cspine.core.deadline import LateError
from cspine.core.errors import ArtifactError, OverloadedError
from cspine.serve import errors
from cspine.serve import hot_reload as models_module
from cspine.serve.errors import FailureStreak
from cspine.serve.hot_reload import ModelManager
from support.service_fakes import make_png
from support.waiting import wait_for


def test_a_streak_is_long_until_it_ends_or_is_old():
    now = [0.0]
    streak = FailureStreak(lambda: now[0])
    for _ in range(errors.MANY):
        assert not streak.is_long
        streak.add()
    assert streak.is_long
    now[0] = errors.MEMORY_S
    assert not streak.is_long
    streak.add()
    assert streak.is_long
    streak.end()
    assert not streak.is_long


SCARCE = (MemoryError(), OSError(errno.EMFILE, ""), RuntimeError("can't start new thread"))


@pytest.mark.parametrize("error", [*SCARCE, OverloadedError("late"), RuntimeError("engine")])
def test_a_model_that_fails_is_not_ready_until_it_answers(client, predictor, monkeypatch, error):
    def fail(*_):
        raise error

    post = lambda n: client.post("/predict", data=make_png(n), content_type="image/png")  # noqa: E731
    for path in ("/health/ready", "/v2/health/ready"):
        assert client.get(path).status_code == 200
    with monkeypatch.context() as failing:
        failing.setattr(predictor, "answer", fail)
        answers = [post(number) for number in range(errors.MANY)]
    # A defect: no client can do anything about it.
    if str(error) != "engine":
        assert all(answer.headers["Retry-After"] for answer in answers)
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json["status"]) == (503, "failing")
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200
    assert post(9).status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_a_network_that_hangs_is_not_ready_until_it_answers(client, predictor, monkeypatch):
    with monkeypatch.context() as hanging:
        # Longer than a prediction may take.
        hanging.setattr(predictor.engine, "busy_s", lambda: 10.5)
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json["status"]) == (503, "failing")
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_an_answer_from_memory_says_nothing_of_the_network(client, predictor, monkeypatch):
    def fail(*_):
        raise RuntimeError

    post = lambda n: client.post("/predict", data=make_png(n), content_type="image/png")  # noqa: E731
    assert post(0).status_code == 200
    monkeypatch.setattr(predictor, "answer", fail)
    for number in range(1, errors.MANY + 1):
        assert post(number).status_code == 500 and post(0).status_code == 200
    assert client.get("/health/ready").status_code == 503


def test_one_image_that_fails_leaves_the_answers_of_the_others(
    client, predictor, monkeypatch, caplog
):
    answer = predictor.answer

    def fail_on_black(image, *rest):
        if image.grey.max() == 0:
            raise RuntimeError("a defect")
        return answer(image, *rest)

    monkeypatch.setattr(predictor, "answer", fail_on_black)
    pictures = [*map(make_png, (9, 0, 200)), b"no picture"]
    files = [(io.BytesIO(picture), "a.png") for picture in pictures]
    response = client.post("/predict", data={"file": files})
    first, second, third, fourth = response.json["results"]
    assert (first["prediction"], third["prediction"]) == ("normal", "fracture")
    assert second["error"]["status"] == 500 and "defect" not in str(second)
    assert fourth["error"]["status"] == 415
    # The defect alone, with its cause, under the id that the caller has.
    [logged] = [record for record in caplog.records if record.exc_info]
    assert logged.request_id == response.headers["X-Request-ID"]
    assert str(logged.exc_info[1].__cause__) == "a defect"


def test_an_unreadable_image_says_nothing_of_the_model(client):
    for _ in range(2 * errors.MANY):
        assert client.post("/predict", data=b"x", content_type="image/png").status_code == 415
    assert client.get("/health/ready").status_code == 200


def test_too_much_work_says_nothing_of_the_model(client, predictor, monkeypatch):
    def come_late(*_):
        raise LateError

    monkeypatch.setattr(predictor, "answer", come_late)
    for number in range(2 * errors.MANY):
        late = client.post("/predict", data=make_png(number), content_type="image/png")
        assert (late.status_code, late.headers["Retry-After"]) == (503, "1")
    assert client.get("/health/ready").status_code == 200


def test_what_could_not_be_loaded_is_tried_again(predictor, monkeypatch):
    monkeypatch.setattr(models_module, "WATCH_S", 0.01)
    monkeypatch.setattr(models_module, "RETRY_S", 0.05)
    outcomes = iter([ArtifactError("a full disk"), OSError("a full disk"), TypeError(), predictor])

    def load(_):
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    old = type(predictor)("f" * 12)
    holder, ending = ModelManager(old, load, lambda: "new"), models_module.threading.Event()
    thread = holder.watch(ending)
    wait_for(lambda: holder.current is predictor)
    ending.set()
    thread.join()
