"""Measure the engine's speed, start-up time and memory for each network and precision.

Random weights: speed does not depend on their values. `latency_ms` is one image at a time over all
cores (one stream), `images_per_s` many images over one stream a core, `start` a fresh process from
its start to a warmed engine, with the IR there and from `best.h5` alone, and its resident memory.
Not measured: decoding, HTTP, accuracy. `python -m benchmarks.engine --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from benchmarks.random_models import build
from cspine.model.networks.architectures import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[1]

PRECISIONS = ("f32", "bf16", "int8")
# Field 22 of /proc/self/stat is the start in ticks since boot; the name before may hold blanks.
START = """
import json, os, sys, time
from pathlib import Path
from cspine.model.store.registry import resolve_version
from cspine.model.engine.engine import Engine
engine = Engine.load(resolve_version(Path(sys.argv[1])), sys.argv[2])
ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
up = float(Path("/proc/uptime").read_text().split()[0])
status = Path("/proc/self/status").read_text()
rss = int(status.split("VmRSS:")[1].split()[0])
print(json.dumps({"ready_s": round(up - ticks / os.sysconf("SC_CLK_TCK"), 2),
                  "resident_mb": round(rss / 1024), "keras": "keras" in sys.modules}))
"""


def measure_speed(folder: Path, size: int, precision: str, seconds: float) -> dict[str, Any]:
    """Latency over all cores and rate over one stream a core."""
    from cspine.model.engine.engine import Engine
    from cspine.model.store.registry import resolve_version

    files = resolve_version(folder)
    images = np.random.default_rng(1).integers(0, 256, (16, size, size), np.uint8)
    alone = Engine.load(files, precision, streams=1)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 5:
        began = time.perf_counter()
        alone.infer(images[:1])
        times.append(1e3 * (time.perf_counter() - began))
    engine = Engine.load(files, precision)
    # Process time, which counts the engine's own threads as well.
    began, busy, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < began + seconds or done < 32:
        engine.infer(images)
        done += len(images)
    return {
        "computed_in": engine.precision_used,
        "latency_ms": round(statistics.median(times), 2),
        "images_per_s": round(done / (time.perf_counter() - began), 2),
        "cpu_ms_per_image": round(1e3 * (time.process_time() - busy) / done, 2),
    }


def measure_start(folder: Path, precision: str) -> dict[str, Any]:
    """Seconds from a process's start to a warmed engine, and its resident memory then."""
    command = [sys.executable, "-c", START, str(folder), precision]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


def measure(name: str, seconds: float) -> dict[str, Any]:
    """All figures of one architecture."""
    with tempfile.TemporaryDirectory() as text:
        build(Path(text), name)
        folder, size = Path(text) / "staging0", ARCHITECTURES[name].image_size
        result: dict[str, Any] = {"image_size": size}
        for precision in PRECISIONS:
            result[precision] = measure_speed(folder, size, precision, seconds)
        result["start_from_ir"] = measure_start(folder, "f32")
        result["start_from_ir_int8"] = measure_start(folder, "int8")
        # best.xml and best.bin, so that the IR must be made from best.h5 first.
        for path in folder.glob("best.[xb]*"):
            path.unlink()
        result["start_from_h5"] = measure_start(folder, "f32")
        return result


def main() -> None:
    """Measure the architectures asked for; print JSON and, with --out, write it."""
    names = list(ARCHITECTURES)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", nargs="+", default=names, choices=names)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    given = parser.parse_args()
    # Keras reads it once, when it is first imported.
    os.environ["KERAS_BACKEND"] = "openvino"
    report: dict[str, Any] = {"machine": describe_machine()}
    report["networks"] = {name: measure(name, given.seconds) for name in given.architectures}
    print_figures(report, given.out)


if __name__ == "__main__":
    main()
