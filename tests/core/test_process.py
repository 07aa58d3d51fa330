"""Cores by affinity and the container's quota; children's environments without secrets."""

import os
import subprocess
import sys

import pytest

from cspine.core.process import bare_environment, count_cores


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


def test_a_child_imports_what_its_parent_does_and_knows_no_secret(monkeypatch):
    monkeypatch.setenv("CSPINE_API_KEYS", "a secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    environment = bare_environment()
    assert environment.keys() <= {
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "SYSTEMROOT",
        "PYTHONPATH",
    }
    assert environment["LD_LIBRARY_PATH"] == "/nowhere"
    command = [sys.executable, "-c", "import numpy, os; print('CSPINE_API_KEYS' in os.environ)"]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert child.stdout == "False\n"
