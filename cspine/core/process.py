"""The cores that this process may use, and the environment variables that its children get."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from pathlib import Path

# The CPU quota of the process's control group, as a container sees it (cgroup v2, "cpu.max").
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# Some builds of Python do not start without these variables.
_LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


def count_cores(quota_file: Path = _QUOTA) -> int:
    """Return the number of cores that CPU affinity and the container's quota allow, at least 1.

    In a container these are often fewer than the cores of the machine.

    `quota_file` holds two fields: the microseconds of CPU time per period, or "max" for no limit,
    and the length of the period in microseconds.
    """
    # Only Linux has CPU affinity; on other systems the process may use all cores.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = quota_file.read_text(encoding="ascii").split()
        if quota != "max":
            # Rounded up, since half a core still keeps one more stream busy half of the time.
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def bare_environment() -> dict[str, str]:
    """Return an environment of only the library loader's variables and this process's import path.

    A child process that reads untrusted bytes must not find the service's keys in its environment.
    """
    expanded = {name: os.path.expandvars(f"${name}") for name in _LOADER}
    present = {name: value for name, value in expanded.items() if value != f"${name}"}
    return present | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
