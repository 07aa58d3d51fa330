"""Bytes to answers, with a real network: the precedence, the region, the heat map, the warnings."""

import threading
from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from cspine.core.deadline import Deadline, LateError, UnwantedError
from cspine.core.errors import ArtifactError, ImageError, ImageTooLargeError, OverloadedError
from cspine.imaging.decode import DecodedImage, Limits
from cspine.model.engine.engine import Engine
from cspine.model.engine.pending_output import PendingOutput
from cspine.model.store.registry import resolve_version
from cspine.predict.predictor import Predictor
from support.tiny_model import NOTE, as_png, draw_neck


@pytest.fixture(scope="module")
def predictor(tiny_models):
    return Predictor.load(tiny_models, "f32", 2, limits=Limits(max_pixels=10**6))


def test_a_slice_is_answered(predictor, neck_png):
    answer = predictor.predict(neck_png)
    assert answer.prediction in ("fracture", "normal")
    assert (answer.probability >= 0.5) == (answer.prediction == "fracture")
    assert answer.in_distribution
    assert answer.region == (0, 0, 256, 256)
    assert answer.warnings == (NOTE,)
    assert (answer.architecture, answer.version) == ("cnn", predictor.version)
    assert (answer.heatmap, answer.grey) == (None, None)


def test_an_explained_answer_has_pictures_of_the_source_size(predictor, neck_png):
    answer = predictor.predict(neck_png, explain=True)
    assert answer.heatmap.shape == answer.grey.shape == (256, 256)
    assert answer.heatmap.dtype == np.uint8
    body = answer.to_dict(("heatmap",))
    assert "image" not in body
    assert isinstance(body["heatmap"], str)


def test_pixels_and_bytes_give_the_same_answer(predictor, neck_png):
    assert predictor.predict_pixels(draw_neck()).probability == pytest.approx(
        predictor.predict(neck_png).probability, abs=1e-6
    )


def test_nothing_waits_for_the_engine_with_its_hounsfield_units(predictor):
    grey = draw_neck()
    image, crop = predictor.prepare(DecodedImage(grey, "dicom", hu=grey.astype(np.float32)))
    assert image.hu is None and image.grey is grey
    assert crop is not None


class Queue:
    """An engine whose one image is queued (`is_running` False) or being computed, without end."""

    def __init__(self, is_running):
        self.future = PendingOutput(self)
        if is_running:
            self.future.set_running_or_notify_cancel()

    def submit(self, image, alone, due_s):
        return self.future


@pytest.mark.parametrize("is_running, kind", [(False, LateError), (True, OverloadedError)])
def test_late_in_the_queue_is_no_sign_of_a_network_that_hangs(
    predictor, neck_png, is_running, kind
):
    waiting = copy(predictor)
    waiting.engine = Queue(is_running)
    with pytest.raises(OverloadedError) as raised:
        waiting.predict(neck_png, deadline=Deadline.of(2.0))
    assert type(raised.value) is kind
    assert waiting.engine.future.cancelled() is not is_running


def test_an_image_that_waits_for_the_engine_is_dropped_once_its_client_left(predictor, neck_png):
    waiting, is_there = copy(predictor), threading.Event()
    waiting.engine = Queue(is_running=False)
    threading.Timer(0.5, is_there.set).start()
    with pytest.raises(UnwantedError):
        waiting.predict(neck_png, deadline=Deadline.of(30, lambda: not is_there.is_set()))
    assert waiting.engine.future.cancelled()


def test_the_wait_for_the_engine_is_told_apart_from_its_work(tiny_models, neck_png):
    seen = {}
    observed = Predictor.load(tiny_models, "f32", 1, observe=seen.__setitem__)
    observed.engine = Queue(is_running=False)

    answer = observed.engine.future

    def work():
        answer.set_running_or_notify_cancel()
        answer.set_exception(ValueError())

    threading.Timer(0.2, work).start()
    with pytest.raises(ValueError):
        observed.predict(neck_png)
    assert seen["queue"] == answer.started_s - answer.asked_s > 0
    assert seen["inference"] > 0


def test_weights_that_change_under_the_load_are_refused(tiny_models):
    files = resolve_version(tiny_models)
    with pytest.raises(ArtifactError, match="must not change"):
        Predictor.from_engine(replace(files, h5_sha256="0" * 64), Engine.load(files))


def test_a_gate_of_another_networks_width_is_refused(tiny_models):
    files = resolve_version(tiny_models)
    engine = Engine.load(files)
    engine.embedding_units += 1
    with pytest.raises(ArtifactError, match=f"{engine.embedding_units} units"):
        Predictor.from_engine(files, engine)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.full((256, 256), 100, np.uint8), "blank"),
        (np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8), "not an axial CT"),
        (np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8), "colour"),
    ],
)
def test_what_is_no_neck_is_uncertain_and_says_why(predictor, picture, reason):
    answer = predictor.predict_pixels(picture)
    assert (answer.prediction, answer.in_distribution) == ("uncertain", False)
    assert reason in answer.warnings[-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("view", "vertebra"), ("image_size", 224), ("architecture", "xception"), ("version", "<b>")],
)
def test_a_card_that_says_otherwise_than_the_weights_is_refused(tiny_models, name, value):
    files = resolve_version(tiny_models)
    lying = replace(files, card={**files.card, name: value})
    with pytest.raises(ArtifactError, match=f"`{name}` in best.json must be"):
        Predictor.from_files(lying, "f32")


def test_limits_and_broken_bytes_are_errors(predictor, neck_png):
    with pytest.raises(ImageTooLargeError):
        predictor.predict_pixels(np.zeros((1001, 1000), np.uint8))
    with pytest.raises(ImageError):
        predictor.predict(neck_png[:-30])


def test_a_budget_that_is_used_up_costs_no_inference(predictor, neck_png):
    with pytest.raises(OverloadedError):
        predictor.predict(neck_png, deadline=Deadline.of(-1))


def test_many_threads_get_their_own_answers(predictor):
    pictures = [as_png(draw_neck(seed=seed)) for seed in range(4)]
    alone = [predictor.predict(picture).probability for picture in pictures]
    together: dict[int, float] = {}

    def ask(index: int) -> None:
        # Four pictures by sixteen threads: an answer must not go to the wrong one.
        together[index] = predictor.predict(pictures[index % 4]).probability

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(16)] == pytest.approx(alone * 4, abs=1e-6)


def test_what_the_engine_drops_as_late_is_told_as_late(predictor, neck_png):
    waiting = copy(predictor)
    waiting.engine = Queue(is_running=False)
    waiting.engine.future.cancel()
    with pytest.raises(LateError):
        waiting.predict(neck_png, deadline=Deadline.of(60))


def test_an_image_is_alone_where_no_other_is_in_work(predictor, neck_png, monkeypatch):
    submit, seen = predictor.engine.submit, []

    def submit_and_ask(image, alone, due_s):
        seen.append(alone)
        if len(seen) == 1:
            predictor.predict(neck_png)  # while the first one waits
        return submit(image, alone, due_s)

    monkeypatch.setattr(predictor.engine, "submit", submit_and_ask)
    predictor.predict(neck_png)
    predictor.predict(neck_png)
    assert seen == [True, False, True]


def test_stages_are_observed(tiny_models, neck_png):
    seen = []
    observed = Predictor.load(tiny_models, "f32", 1, observe=lambda stage, s: seen.append(stage))
    observed.predict(neck_png)
    assert seen == ["slot", "decode", "queue", "inference"]


def test_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(ArtifactError, match=r"best\.h5"):
        Predictor.load(tmp_path)
