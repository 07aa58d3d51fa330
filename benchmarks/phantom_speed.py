"""How many phantom slices a second are rendered and written as 512² PNGs with masks and twins.

    python benchmarks/phantom_speed.py [--patients 24]

Prints JSON: wall-clock and CPU seconds; the load average says how idle the machine was.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import describe_machine
from cspine.phantom.dataset import PhantomConfig, write_grouped


def measure(patients: int) -> dict[str, object]:
    """Write one grouped set and return its figures."""
    config = PhantomConfig(patients=patients)
    slices = patients * config.slices_per_patient
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_grouped(Path(folder) / "set", config)
        wall_s = time.perf_counter() - start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(u.ru_utime + u.ru_stime for u in usage)
    return {
        "slices": slices, "wall_s": round(wall_s, 2), "slices_per_s": round(slices / wall_s, 1),
        "cpu_s_per_slice": round(cpu_s / slices, 4), "machine": machine,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=24)
    print(json.dumps(measure(parser.parse_args().patients), indent=2))
