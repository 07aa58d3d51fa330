"""Items of lists: done in order, and never waited for without end."""

from __future__ import annotations

import threading

import pytest

from cspine.core.deadline import Deadline, LateError
from cspine.predict import thread_pool as pool_module
from cspine.predict.thread_pool import Pool
from support.waiting import wait_for


def test_results_come_in_the_order_of_the_items():
    last_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert last_is_done.wait(30)
        if item == 2:
            last_is_done.set()
        return item

    assert Pool(3, "batch").map(work, [0, 1, 2], Deadline()) == [0, 1, 2]


def test_dead_threads_cost_one_list_its_answer_and_no_other(monkeypatch):
    monkeypatch.setattr(pool_module, "_GRACE_S", 0.0)
    release = threading.Event()
    pool = Pool(1, "batch")
    # To those who wait, a thread that never comes back is a dead one.
    with pytest.raises(LateError):
        pool.map(lambda _: release.wait(30), [1], Deadline.of(0.1))
    assert pool.map(str, [1, 2], Deadline.of(5.0)) == ["1", "2"]
    release.set()


def test_a_late_list_leaves_nothing_to_do(monkeypatch):
    monkeypatch.setattr(pool_module, "_GRACE_S", 0.0)
    release, done = threading.Event(), []

    def work(item: int) -> None:
        release.wait(30)
        done.append(item)

    with pytest.raises(LateError):
        Pool(1, "a late one").map(work, [1, 2, 3], Deadline.of(0.1))
    release.set()
    wait_for(lambda: not any(one.name.startswith("a late one") for one in threading.enumerate()))
    assert done == [1]
