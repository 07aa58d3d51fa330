"""Measure how many phantom slices are rendered and written per second, with masks and twins.

    python -m benchmarks.phantom_speed [--patients 60] [--out FILE]

A slice is a PNG of 512² pixels. A fractured slice counts as two pictures: itself and its twin, the
same slice without the fracture. Prints JSON with wall-clock and CPU seconds, which include the
start of all processes. The load average shows how busy the machine was before. The required speed
is 30 slices/s.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.grouped import write_grouped


def measure(patients: int) -> dict[str, object]:
    """Write one phantom set in the grouped layout and return the figures."""
    config = PhantomConfig(patients=patients)
    slices = patients * config.slices_per_patient
    # Read before the work starts, so that the work's own load is not counted.
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        start = time.perf_counter()
        write_grouped(folder, config)
        wall_s = time.perf_counter() - start
        pictures = slices + len(list((folder / "twins").iterdir()))
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(u.ru_utime + u.ru_stime for u in usage)
    return {
        "slices": slices,
        "pictures": pictures,
        "wall_s": round(wall_s, 2),
        "slices_per_s": round(slices / wall_s, 1),
        "pictures_per_s": round(pictures / wall_s, 1),
        "cpu_s_per_slice": round(cpu_s / slices, 4),
        "machine": machine,
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=60, help="synthetic patients to render")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    print_figures(measure(args.patients), args.out)


if __name__ == "__main__":
    main()
