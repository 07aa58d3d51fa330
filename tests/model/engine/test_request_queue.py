"""The line of waiting images: who would be late leaves it, and only where others wait."""

import time

import numpy as np

from cspine.model.engine.pending_output import PendingOutput
from cspine.model.engine.request_queue import MARGIN, RequestQueue, Waiting


def stand(*left_s: float) -> tuple[RequestQueue, list[PendingOutput]]:
    """A line of images with so many seconds left, and their answers."""
    line, answers = RequestQueue(), [PendingOutput(None) for _ in left_s]
    for answer, seconds in zip(answers, left_s, strict=True):
        pixels = np.zeros((1, 8, 8, 3), np.uint8)
        line.add(Waiting(pixels, answer, False, time.monotonic() + seconds))
    return line, answers


def test_who_would_be_late_leaves_for_who_would_not():
    line, answers = stand(MARGIN * 0.5, MARGIN * 0.9, MARGIN * 60, 1e-3)
    assert line.drop_late(image_s=1.0) == answers[:2]
    assert line.first.answer is answers[2] and len(line) == 2


def test_the_last_of_a_line_is_always_tried():
    # An image that took long by mishap must not stop the engine for good.
    line, answers = stand(1.0, 2.0)
    assert line.drop_late(image_s=1e6) == answers[:1]
    assert line.drop_late(image_s=1e6) == [] and line.take().answer is answers[1]


def test_who_has_given_up_holds_no_place():
    line, answers = stand(60, 60)
    answers[0].cancel()
    assert line.drop_late(image_s=0.0) == answers[:1] and len(line) == 1
    answers[1].cancel()
    assert line.drop_late(image_s=0.0) == answers[1:] and len(line) == 0
