"""The memory that a block takes at its peak, beyond what the process had before (Linux alone).

`ru_maxrss` is the peak of a whole life: after one large test, it would see nothing of a later one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass
class Peak:
    kib: int = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Yield a Peak that is filled in when the block ends."""
    if not CLEAR.exists():
        pytest.skip("peaks of memory are read from /proc")
    # proc(5): 5 sets the peak to what is resident now.
    CLEAR.write_text("5")
    before, peak = resident_kib(), Peak()
    yield peak
    peak.kib = _read("VmHWM") - before


def resident_kib() -> int:
    """What the process holds now."""
    return _read("VmRSS")


def _read(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
