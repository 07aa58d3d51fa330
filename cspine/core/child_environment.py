"""The environment variables that a child process gets from its parent."""

from __future__ import annotations

import os
import sys

# Some builds of Python do not start without these.
_LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


def bare_environment() -> dict[str, str]:
    """Return the variables of the library loader, and this process's import path.

    A child that reads untrusted bytes must find no key of the service in its environment.
    """
    expanded = {name: os.path.expandvars(f"${name}") for name in _LOADER}
    present = {name: value for name, value in expanded.items() if value != f"${name}"}
    return present | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
