"""Compare the latency of both revisions of `cnn`, image by image in turn.

    python -m benchmarks.revisions [--pairs 500] [--out FILE]

Revision 1 is the graph for crops, revision 2 the graph for complete slices; both have 192² pixels
and no map head. Random weights: speed does not depend on their values. One image at a time, f32,
one stream over all cores. The ratio is the median over the pairs, so that a busy machine slows both
alike.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from benchmarks.random_models import build
from cspine.model.networks.architectures import ARCHITECTURES

NAME = "cnn"
WARM_UP = 20  # pairs that are not counted


def load_engines(folder: Path) -> list[Any]:
    """Return an engine of each revision, the first revision first."""
    from cspine.model.engine.engine import Engine
    from cspine.model.store.registry import resolve_version

    engines = []
    for revision in range(1, ARCHITECTURES[NAME].revisions + 1):
        place = folder / str(revision)
        build(place, NAME, map_head=False, revision=revision)
        engines.append(Engine.load(resolve_version(place), "f32", streams=1))
    return engines


def time_in_turn(engines: list[Any], pairs: int) -> np.ndarray:
    """Return milliseconds, float64 (pairs, engines), of one image at a time."""
    side = ARCHITECTURES[NAME].image_size
    image = np.random.default_rng(1).integers(0, 256, (1, side, side), np.uint8)
    times = np.empty((WARM_UP + pairs, len(engines)))
    for row in times:
        for number, engine in enumerate(engines):
            began = time.perf_counter()
            engine.infer(image)
            row[number] = 1e3 * (time.perf_counter() - began)
    return times[WARM_UP:]


def main() -> None:
    """Measure both and print JSON."""
    parser = argparse.ArgumentParser(description="Compare the latency of both revisions of `cnn`.")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    given = parser.parse_args()
    # Keras reads it once, when it is first imported.
    os.environ["KERAS_BACKEND"] = "openvino"
    report: dict[str, Any] = {"machine": describe_machine(), "pairs": given.pairs}
    with tempfile.TemporaryDirectory() as folder:
        times = time_in_turn(load_engines(Path(folder)), given.pairs)
    medians = np.median(times, axis=0)
    report["latency_ms"] = {f"revision_{n}": round(ms, 3) for n, ms in enumerate(medians, 1)}
    ratios = times[:, 1] / times[:, 0]
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    report["revision_2_over_1"] = {
        "median": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
    }
    print_figures(report, given.out)


if __name__ == "__main__":
    main()
