"""Soak test: half an hour at 80 % load while the model is replaced every 10 seconds.

`python -m benchmarks.soak [--architecture cnn] [--minutes 30]` prints JSON. Two versions with
other weights and another calibration take turns in the model folder, as `train.py` publishes them;
the service notices by itself. The maximum, of which 80 % are asked, is measured for a minute with
the same exchanges, and once more at the end. Anything but a 200 counts as failed, a 503 too. Which
probability each version gives for each picture is found beforehand without HTTP; an answer whose
probability is not that of the version it names comes from a mixed model. Memory is read every 10
seconds; its end is compared with minute 5 (with the middle, in shorter runs). f32, cache off.
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
# Far oftener than anybody publishes, to have hundreds of exchanges in half an hour.
RELOAD_EVERY_S = 10.0
# More connections than places, or nothing could be refused.
REFERENCE_CLIENTS, REFERENCE_S, MORE_CONNECTIONS = 8, 60.0, 64
LOAD_SHARE, MEMORY_SHARE = 0.8, 0.05
# Before that allocator and caches still grow to their size.
SETTLED_S = 300.0
# Of a probability: sums in another order; the versions differ by far more.
TOLERANCE = 1e-4


def expect_answers(models: Path, paths: list[Path]) -> dict[str, list[float]]:
    """Return each kept version's probability of each picture, from a process without HTTP."""
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
    """Publishes the staged models in turn, and notes the service's memory, until it is stopped."""

    def __init__(
        self, models: Path, stagings: list[Path], service: Service, published: int = 0
    ) -> None:
        super().__init__(daemon=True)
        self._models, self._stagings, self._service = models, stagings, service
        self._ending = threading.Event()
        self.published = published
        self.memory: list[tuple[float, float]] = []  # seconds since the start, MB

    def run(self) -> None:
        """Publish and look, every RELOAD_EVERY_S."""
        from cspine.model.store.registry import publish_version

        start = time.monotonic()
        while not self._ending.wait(RELOAD_EVERY_S):
            publish_version(self._stagings[self.published % len(self._stagings)], self._models)
            self.published += 1
            self.memory.append((time.monotonic() - start, self._service.resident_mb()))

    def while_running(self, job: Job) -> dict[str, Any]:
        """Exchange while the load of `job` runs; return the client's figures."""
        self.start()
        figures = run_client(job)
        self._ending.set()
        self.join()
        return figures


def count_mixed(
    answers: list[tuple[int, str, float]], expected: dict[str, list[float]]
) -> dict[str, Any]:
    """Return how many answers are not those of the version they name, and what sets them apart."""
    off = [abs(answer - expected[version][which]) for which, version, answer in answers]
    # Told as well: versions no farther apart than the tolerance would hide a mix.
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
    """Memory around minute 5 (or the middle), around the end, and their ratio; medians of 5."""
    settled_s = min(SETTLED_S, seconds / 2)
    settled = [mb for at_s, mb in memory if at_s >= settled_s][:5]
    end = [mb for _, mb in memory][-5:]
    # Medians of five: a single reading may fall into an exchange, when two models are held.
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
    """Run the load beside the exchanges and return everything seen."""
    expected = expect_answers(models, paths)
    parts = upload_parts([path.read_bytes() for path in paths])
    service = start_ours(models, "f32", max_queue=str(options.max_queue))
    # The most it can do, measured first: 80 % of a guess would be idling or overload.
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
        # Of all that were published, and were swapped in, those of the load alone.
        "published": closing.published,
        "swapped": swapped,
        "published_in_the_load": exchanger.published - warming.published,
        # Of a virtual machine: what its host gave to others.
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
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--max-queue", type=int, default=64, help="CSPINE_MAX_QUEUE (64)")
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
