"""Soak test: half an hour at 80 % load while the model is replaced every 10 seconds.

    python -m benchmarks.soak [--architecture cnn] [--minutes 30] [--out FILE]

Two versions with different weights and calibration are published to the model folder in turn, as
`train.py` would publish them, and the service loads each one by itself. The maximum rate is
measured for a minute before the load and again after it, while the model is replaced as well; the
load is 80 % of the first maximum. Every answer other than a 200 counts as failed, including a 503.

The probability that each version gives for each picture is computed beforehand without HTTP. If an
answer's probability is not that of the version it names, the answer comes from a mixed model.
Memory is read every 10 seconds, and the memory at the end is compared with that at minute 5 (in
runs shorter than 10 minutes, at the middle). Precision f32, answer cache off. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load_client import Job, upload_parts
from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from benchmarks.service_processes import Service, run_child, run_client, start_ours, write_pictures
from cspine.core.labels import ARCHITECTURE_NAMES

ROOT = Path(__file__).resolve().parents[1]

MODELS = "benchmarks.random_models"
# Much more often than anybody publishes, so that half an hour has over a hundred replacements.
RELOAD_EVERY_S = 10.0
# More connections than the service's queue has slots, so that requests can be refused.
REFERENCE_CLIENTS, REFERENCE_S, MORE_CONNECTIONS = 8, 60.0, 64
LOAD_SHARE, MEMORY_SHARE = 0.8, 0.05
# The memory allocator and caches still grow before this time.
SETTLED_S = 300.0
# Allowed error of a probability, since sums may be computed in another order. The versions'
# probabilities differ by far more.
TOLERANCE = 1e-4


def expect_answers(models: Path, paths: list[Path]) -> dict[str, list[float]]:
    """Return each stored version's probability for each picture, from a process without HTTP."""
    script = (
        "import json, sys; from pathlib import Path\n"
        "from cspine.model.store.registry import list_versions, resolve_version\n"
        "from cspine.predict.predictor import Predictor\n"
        "models, *paths = map(Path, sys.argv[1:])\n"
        "def ask(version):\n"
        "    predictor = Predictor.from_files(resolve_version(models, version), 'f32')\n"
        "    return [predictor.predict(path.read_bytes()).probability for path in paths]\n"
        "print(json.dumps({version: ask(version) for version in list_versions(models)}))\n"
    )
    command = [sys.executable, "-c", script, str(models), *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


class Exchanger(threading.Thread):
    """A thread that publishes the staged models in turn and records the service's memory."""

    def __init__(
        self, models: Path, stagings: list[Path], service: Service, published: int = 0
    ) -> None:
        super().__init__(daemon=True)
        self._models, self._stagings, self._service = models, stagings, service
        self._ending = threading.Event()
        self.published = published
        self.memory: list[tuple[float, float]] = []  # seconds since the start, MB

    def run(self) -> None:
        """Publish a model and read the memory every RELOAD_EVERY_S seconds."""
        from cspine.model.store.registry import publish_version

        start = time.monotonic()
        while not self._ending.wait(RELOAD_EVERY_S):
            publish_version(self._stagings[self.published % len(self._stagings)], self._models)
            self.published += 1
            self.memory.append((time.monotonic() - start, self._service.resident_mb()))

    def while_running(self, job: Job) -> dict[str, Any]:
        """Replace the model while the load of `job` runs; return the client's figures."""
        self.start()
        figures = run_client(job)
        self._ending.set()
        self.join()
        return figures


def count_mixed(
    answers: list[tuple[int, str, float]], expected: dict[str, list[float]]
) -> dict[str, Any]:
    """Return how many answers are not those of the version they name, and how versions differ."""
    off = [abs(answer - expected[version][which]) for which, version, answer in answers]
    # The report includes the versions' smallest difference. If it were below the tolerance, an
    # answer of a mixed model could not be recognised.
    first, second = expected.values()
    apart = [abs(a - b) for a, b in zip(first, second, strict=True)]
    versions = [version for _, version, _ in answers]
    return {
        "mixed": sum(one > TOLERANCE for one in off),
        "largest_error": max(off, default=0.0),
        "smallest_difference_of_the_versions": min(apart),
        "answers_by_version": {one: versions.count(one) for one in expected},
    }


def summarise_memory(memory: list[tuple[float, float]], seconds: float) -> dict[str, float]:
    """Return the memory at minute 5 (or the middle), at the end, and their ratio."""
    settled_s = min(SETTLED_S, seconds / 2)
    settled = [mb for at_s, mb in memory if at_s >= settled_s][:5]
    end = [mb for _, mb in memory][-5:]
    # Medians of five readings: one reading may fall into a replacement, when two models are loaded.
    early, late = statistics.median(settled), statistics.median(end)
    return {
        "settled_at_s": settled_s,
        "settled_mb": early,
        "end_mb": late,
        "most_mb": max(mb for _, mb in memory),
        "ratio": round(late / early, 4),
    }


def soak(
    models: Path, stagings: list[Path], paths: list[Path], options: argparse.Namespace
) -> dict[str, Any]:
    """Run the load while models are replaced, and return all figures."""
    expected = expect_answers(models, paths)
    parts = upload_parts([path.read_bytes() for path in paths])
    service = start_ours(models, "f32", max_queue=str(options.max_queue))
    # The maximum rate is measured first: 80 % of a guess could be almost no load or an overload.
    job = Job(service.port, parts, "image/png", REFERENCE_CLIENTS, REFERENCE_S)
    warming = Exchanger(models, stagings, service)
    maximum_per_s = warming.while_running(job)["requests_per_s"]
    rate, seconds = LOAD_SHARE * maximum_per_s, 60 * options.minutes
    exchanger = Exchanger(models, stagings, service, warming.published)
    stolen_s = psutil.cpu_times().steal
    connections = options.max_queue + MORE_CONNECTIONS
    figures = exchanger.while_running(
        Job(service.port, parts, "image/png", connections, seconds, rate=rate, answers=True)
    )
    stolen_s = psutil.cpu_times().steal - stolen_s
    closing = Exchanger(models, stagings, service, exchanger.published)
    maximum_at_the_end = closing.while_running(job)["requests_per_s"]
    swapped = service.count_swaps()
    service.end()
    mixed = count_mixed(figures.pop("answers"), expected)
    memory = summarise_memory(exchanger.memory, seconds)
    failed = sum(figures["failures"].values())
    return {
        "maximum_per_s": maximum_per_s,
        "asked_per_s": round(rate, 2),
        "maximum_per_s_at_the_end": maximum_at_the_end,
        # `published` and `swapped` count the complete run, with both measurements of the maximum.
        "published": closing.published,
        "swapped": swapped,
        "published_in_the_load": exchanger.published - warming.published,
        # On a virtual machine: the CPU time that its host gave to other machines.
        "stolen_cpu_s": round(stolen_s, 1),
        "load": figures,
        "answers": mixed,
        "memory": memory,
        "bars": [
            {"what": "failed requests", "seen": failed, "bar": 0, "met": failed == 0},
            {
                "what": "answers of a mixed model",
                "seen": mixed["mixed"],
                "bar": 0,
                "met": mixed["mixed"] == 0,
            },
            {
                "what": "memory at the end / when settled",
                "seen": memory["ratio"],
                "bar": 1 + MEMORY_SHARE,
                "met": abs(memory["ratio"] - 1) <= MEMORY_SHARE,
            },
        ],
    }


def main() -> None:
    """Build two versions, run, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="cnn", choices=ARCHITECTURE_NAMES)
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the load")
    parser.add_argument("--max-queue", type=int, default=64, help="CSPINE_MAX_QUEUE (default 64)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "architecture": options.architecture,
        "minutes": options.minutes,
        "max_queue": options.max_queue,
    }
    with tempfile.TemporaryDirectory() as text:
        models, paths = Path(text) / "models", write_pictures(Path(text))
        for seed in (0, 1):
            run_child(MODELS, "build", models, options.architecture, seed)
        stagings = [models / "staging0", models / "staging1"]
        report |= soak(models, stagings, paths, options)
    print_figures(report, options.out)


if __name__ == "__main__":
    main()
