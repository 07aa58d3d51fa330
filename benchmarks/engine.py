"""Measure the engine's speed, start-up time and memory for each network and precision.

    python -m benchmarks.engine [--architectures NAME …] [--seconds 4] [--out FILE]

The weights are random, because speed does not depend on their values. `latency_ms` is the time for
one image, with all cores working on it (one stream). `images_per_s` is the rate for many images at
once, with one stream per core. `start_*` is the time from the start of a new process to a warmed-up
engine, and its resident memory then: once with the OpenVINO files (IR) in the folder, once with
only `best.h5`. Decoding, HTTP and accuracy are not measured.
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
# Field 22 of /proc/self/stat is the process's start time in clock ticks since boot. Field 2, the
# program's name in parentheses, may contain blanks, so the text is split after the last ")".
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
    """Return the latency with one stream, and the rate with one stream per core."""
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
    # `process_time` includes the engine's own threads.
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
    """Return the seconds from process start to a warmed-up engine, and its resident memory then."""
    command = [sys.executable, "-c", START, str(folder), precision]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


def measure(name: str, seconds: float) -> dict[str, Any]:
    """Return all figures of one architecture."""
    with tempfile.TemporaryDirectory() as text:
        build(Path(text), name)
        folder, size = Path(text) / "staging0", ARCHITECTURES[name].image_size
        result: dict[str, Any] = {"image_size": size}
        for precision in PRECISIONS:
            result[precision] = measure_speed(folder, size, precision, seconds)
        result["start_from_ir"] = measure_start(folder, "f32")
        result["start_from_ir_int8"] = measure_start(folder, "int8")
        # Deletes best.xml and best.bin, so that the engine must first make the IR from best.h5.
        for path in folder.glob("best.[xb]*"):
            path.unlink()
        result["start_from_h5"] = measure_start(folder, "f32")
        return result


def main() -> None:
    """Measure the given architectures; print JSON and, with --out, also write it to a file."""
    names = list(ARCHITECTURES)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", nargs="+", default=names, choices=names)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    given = parser.parse_args()
    # Keras reads this variable once, when it is first imported.
    os.environ["KERAS_BACKEND"] = "openvino"
    report: dict[str, Any] = {"machine": describe_machine()}
    report["networks"] = {name: measure(name, given.seconds) for name in given.architectures}
    print_figures(report, given.out)


if __name__ == "__main__":
    main()
