"""Deadlines of fetches: connections are shut down in time, each at its own, and no other."""

import socket
import time

import pytest

from cspine.core.deadline import Deadline
from cspine.core.errors import FetchTimeoutError
from cspine.fetch.watchdog import guard, remaining_s


def test_a_read_ends_at_its_deadline_and_a_later_one_goes_on():
    (early, _keep), (late, other) = socket.socketpair(), socket.socketpair()
    with _keep, other, early, late:
        began = time.monotonic()
        # The later one first: the thread must wake for what comes after it.
        with guard(late, Deadline.of(60)), guard(early, Deadline.of(0.2)):
            assert early.recv(1) == b""
            assert 0.2 <= time.monotonic() - began < 30
            other.sendall(b"x")
            assert late.recv(1) == b"x"


def test_what_ended_before_its_deadline_is_left_alone():
    (one, other), (later, _keep) = socket.socketpair(), socket.socketpair()
    with one, other, later, _keep:
        deadline = Deadline.of(1.0)
        with guard(one, deadline):
            pass
        # The thread that ended this one had passed the first deadline.
        with guard(later, Deadline.of(1.5)):
            assert later.recv(1) == b""
        other.sendall(b"x")
        assert one.recv(1) == b"x"
        with pytest.raises(FetchTimeoutError):
            remaining_s(deadline)
