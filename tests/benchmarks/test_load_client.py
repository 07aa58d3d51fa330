"""The benchmarks' load client: what it sends, when, and what it counts."""

import threading

import pytest

from benchmarks.load_client import (
    Client,
    Job,
    _due_times,
    _percentile_ms,
    upload_parts,
    url_parts,
)
from benchmarks.sockets import answer_all, connect, listen, read_answer, serve_pictures


@pytest.fixture
def answerer():
    listener = listen()
    threading.Thread(target=answer_all, args=(listener,), daemon=True).start()
    return listener.getsockname()[1]


def test_a_closed_loop_counts_every_answer(answerer):
    job = Job(answerer, upload_parts([b"x" * 9000]), "image/png", 2, 0.4, warm_s=0.0)
    figures = Client(job).run()
    assert figures["failures"] == {}
    assert figures["requests_per_s"] > 0
    assert figures["sent"] >= figures["requests_per_s"] * 0.4


def test_an_open_loop_sends_what_is_due_and_no_more(answerer):
    job = Job(answerer, upload_parts([b"x"]), "image/png", 4, 0.5, rate=40, warm_s=0.0)
    assert Client(job).run()["sent"] <= 20


def test_instants_are_even_or_random_and_repeatable():
    even = Job(1, [], "", 1, seconds=1.0, rate=4)
    assert _due_times(even) == [0.0, 0.25, 0.5, 0.75]
    poisson = Job(1, [], "", 1, seconds=1000.0, rate=4, poisson=True)
    dues = _due_times(poisson)
    assert dues == _due_times(poisson) == sorted(dues)
    assert dues[-1] == pytest.approx(1000, rel=0.1)


def test_percentiles_are_of_the_nearest_rank():
    assert _percentile_ms([0.003, 0.001, 0.002], 0.5) == 2.0
    assert _percentile_ms([0.001] * 99 + [1.0], 0.99) == 1000.0
    assert _percentile_ms([], 0.5) is None


def test_pictures_carry_the_number_that_is_asked_with():
    listener = listen()
    threading.Thread(target=serve_pictures, args=([b"a", b"b"], listener), daemon=True).start()
    port = listener.getsockname()[1]
    with connect(port) as connection:
        connection.sendall(b"GET /1.png?0042 HTTP/1.1\r\n\r\n")
        assert read_answer(connection) == (200, b"b0042")
    assert len(url_parts(port, 3)) == 3
