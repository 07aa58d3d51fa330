"""A child process is told where libraries lie, and nothing else."""

import subprocess
import sys

from cspine.core.child_environment import bare_environment


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
