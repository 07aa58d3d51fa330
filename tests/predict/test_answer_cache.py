"""In flight once, remembered within bounds, errors shared only where they are everybody's."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from cspine.core.deadline import Deadline, UnwantedError
from cspine.core.errors import ImageError, OverloadedError
from cspine.predict.answer_cache import AnswerCache
from cspine.predict.prediction import Prediction

ANSWER = Prediction("normal", 0.1, 0.5, True, (0, 0, 1, 1), "cnn", "a" * 12)


def test_an_answer_is_computed_once():
    cache, calls = AnswerCache(), []
    for _ in range(3):
        assert cache.get_or_compute("k", lambda: calls.append(1) or ANSWER, Deadline()) is ANSWER
    assert len(calls) == 1


def test_without_memory_it_is_computed_each_time():
    cache, calls = AnswerCache(max_entries=0), []
    for _ in range(3):
        cache.get_or_compute("k", lambda: calls.append(1) or ANSWER, Deadline())
    assert len(calls) == 3


def test_the_oldest_is_forgotten_by_number_and_by_bytes():
    cache = AnswerCache(max_entries=2, max_bytes=100)
    # 81 bytes each: two of them are more than 100.
    large = replace(ANSWER, heatmap=np.zeros((9, 9), np.uint8))
    for key in "abc":
        cache.get_or_compute(key, lambda: large, Deadline())
    assert cache.get_or_compute("c", lambda: ANSWER, Deadline()) is large
    assert cache.get_or_compute("b", lambda: ANSWER, Deadline()) is ANSWER


def race(cache, compute, count=8):
    """Ask for one key from many threads while the first computes; returns what each got."""
    got, joined, others = [], threading.Semaphore(0), iter(range(count - 1, 0, -1))

    def join() -> bool:
        # Asked of those alone who have found one in flight.
        joined.release()
        return True

    def compute_once_all_have_joined():
        for _ in range(next(others)):
            assert joined.acquire(timeout=10)
        return compute()

    def ask():
        try:
            deadline = Deadline.of(30, join)
            got.append(cache.get_or_compute("k", compute_once_all_have_joined, deadline))
        except Exception as error:
            got.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_identical_images_in_flight_are_computed_once():
    calls = []

    def compute():
        calls.append(1)
        return ANSWER

    assert race(AnswerCache(), compute) == [ANSWER] * 8
    assert len(calls) == 1


def test_an_unreadable_image_is_everybodys_error():
    calls = []

    def compute():
        calls.append(1)
        raise ImageError("unreadable")

    assert all(isinstance(one, ImageError) for one in race(AnswerCache(), compute))
    assert len(calls) == 1


def test_one_that_gave_up_does_not_take_the_others_along():
    calls = []

    def compute():
        calls.append(1)
        if len(calls) == 1:
            raise UnwantedError
        return ANSWER

    got = race(AnswerCache(), compute)
    assert sorted(type(one).__name__ for one in got) == ["Prediction"] * 7 + ["UnwantedError"]
    assert len(calls) == 2


def test_one_that_waits_keeps_its_own_deadline():
    cache, release = AnswerCache(), threading.Event()
    leader = threading.Thread(
        target=cache.get_or_compute, args=("k", lambda: release.wait(10) and ANSWER, Deadline())
    )
    leader.start()
    with pytest.raises(OverloadedError):
        cache.get_or_compute("k", lambda: ANSWER, Deadline.of(0.05))
    release.set()
    leader.join()


def test_a_budget_ends_and_notices_who_left():
    assert Deadline().remaining_s() is None
    assert 0 < Deadline.of(5).remaining_s() <= 5
    with pytest.raises(OverloadedError, match="deadline"):
        Deadline.of(-1).remaining_s()
    with pytest.raises(UnwantedError):
        Deadline.of(5, lambda: False).remaining_s()
