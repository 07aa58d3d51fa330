"""How many cores this process may use, which in a container is fewer than the machine has."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

# Of the process's own control group, as a container sees it (cgroup v2, "cpu.max").
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def count_cores(quota_file: Path = _QUOTA) -> int:
    """Return the cores that affinity and the container's quota leave, at least 1.

    `quota_file` holds microseconds of CPU a period, or "max", and the period in microseconds.
    """
    # Affinity is Linux's; elsewhere all cores are ours.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = quota_file.read_text(encoding="ascii").split()
        if quota != "max":
            # Half a core more keeps one more stream busy for half of the time.
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)
