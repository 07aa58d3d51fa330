"""What a child process may know of its parent. Starts none."""

from __future__ import annotations

import os
import sys

# Some Pythons start with no less.
_LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


def bare_environment() -> dict[str, str]:
    """Return what a child is told: where libraries lie, and this process's import path.

    A child that reads strangers' bytes must find no key of the service in its environment.
    """
    told = {name: os.path.expandvars(f"${name}") for name in _LOADER}
    kept = {name: value for name, value in told.items() if value != f"${name}"}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
