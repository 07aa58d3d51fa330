"""Cores that may be used: those of affinity, and no more than the container's quota."""

import os

import pytest

from cspine.core.cpu import count_cores


@pytest.mark.parametrize(
    "text, most",
    [
        ("max 100000", 10**6),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("odd", 10**6),
        ("", 10**6),
        ("7 0", 10**6),
    ],
)
def test_a_quota_bounds_the_cores(text, most, tmp_path):
    path = tmp_path / "cpu.max"
    path.write_text(text + "\n")
    assert count_cores(path) == min(len(os.sched_getaffinity(0)), most)


def test_without_control_groups_affinity_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 9})
    assert count_cores(tmp_path / "none") == 3
