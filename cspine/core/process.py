"""The cores that this process may use, and the environment variables that its children get."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from pathlib import Path

# Of the process's own control group, as a container sees it (cgroup v2, "cpu.max").
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# Some builds of Python do not start without these.
_LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


def count_cores(quota_file: Path = _QUOTA) -> int:
    """Return the cores that affinity and the container's quota leave, at least 1.

    In a container these are often fewer than the machine's.

    `quota_file` holds microseconds of CPU a period, or "max", and the period in microseconds.
    """
    # Only Linux has affinity; elsewhere the process may use all cores.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = quota_file.read_text(encoding="ascii").split()
        if quota != "max":
            # Rounded up: half a core keeps one more stream busy for half of the time.
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def bare_environment() -> dict[str, str]:
    """Return the variables of the library loader, and this process's import path.

    A child that reads untrusted bytes must find no key of the service in its environment.
    """
    expanded = {name: os.path.expandvars(f"${name}") for name in _LOADER}
    present = {name: value for name, value in expanded.items() if value != f"${name}"}
    return present | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
