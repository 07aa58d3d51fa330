"""Measure latency at a steady load, and goodput at ten times the maximum load.

    python -m benchmarks.open_loop [--architecture xception] [--seconds 30] [--out FILE]

First, reference runs in a closed loop find the maximum rate, by upload and by URL. Each runs twice
and the larger rate counts, because other work on the machine can only lower it. Then requests are
sent at times that do not depend on the answers (an open loop), and latency counts from the time at
which a request was due:

- uploads at 80 % of the maximum, once evenly spaced and once at random times (Poisson);
- URLs at ten times the maximum. A request refused with 503 counts as sent but not as done.

Load clients and service share the machine. The goodput under overload is therefore compared with
the maximum rate × the share of CPU that the clients and the picture server leave to the service,
relative to the reference run. The precision is int8 by default, and the answer cache is off. Prints
JSON.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load_client import Job, ways_to_ask
from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from benchmarks.service_processes import (
    Service,
    helper,
    run_child,
    start_ours,
    write_pictures,
)
from cspine.core.labels import ARCHITECTURE_NAMES

MODELS = "benchmarks.random_models"
STEADY_SHARE, OVERLOAD_FACTOR = 0.8, 10.0
# 128 connections are more than the service accepts at once (64), so that it has to refuse some.
REFERENCE_CLIENTS, STEADY_CONNECTIONS, OVERLOAD_CONNECTIONS = 8, 32, 128
P99_TO_P50, GOODPUT_SHARE = 2.5, 0.9


class Bench:
    """One service, its picture server, and the request bodies by upload and by URL."""

    def __init__(
        self, service: Service, pictures: psutil.Process, port: int, paths: list[Path]
    ) -> None:
        self._service, self._pictures = service, pictures
        self._ways = ways_to_ask([path.read_bytes() for path in paths], port)

    def ask(self, way: str, clients: int, seconds: float, **loop: Any) -> dict[str, Any]:
        """Run a client; return its figures and how many cores client and picture server used."""
        parts, kind = self._ways[way]
        before = sum(self._pictures.cpu_times()[:2])
        figures = self._service.measure(
            Job(self._service.port, parts, kind, clients, seconds, **loop)
        )
        served_s = sum(self._pictures.cpu_times()[:2]) - before
        figures["load_cores"] = round(figures["client_cpu_s_per_s"] + served_s / seconds, 4)
        return figures


def measure(bench: Bench, seconds: float) -> dict[str, Any]:
    """Return the client's figures of the reference runs, the steady runs and the overload run."""
    runs = [(way, bench.ask(way, REFERENCE_CLIENTS, seconds)) for way in ("upload", "url") * 2]
    result: dict[str, Any] = {
        f"reference_{way}": max(
            (run for asked, run in runs if asked == way), key=lambda run: run["requests_per_s"]
        )
        for way in ("upload", "url")
    }
    result["reference_rates_per_s"] = [[way, run["requests_per_s"]] for way, run in runs]
    # The rates follow from the reference runs of a moment ago, so that a machine that is busy for
    # an hour gets a lower load as well.
    steady = STEADY_SHARE * result["reference_upload"]["requests_per_s"]
    flood = OVERLOAD_FACTOR * result["reference_url"]["requests_per_s"]
    for name, poisson in (("steady_even", False), ("steady_poisson", True)):
        run = bench.ask("upload", STEADY_CONNECTIONS, seconds, rate=steady, poisson=poisson)
        result[name] = run | {"asked_per_s": round(steady, 2)}
    run = bench.ask("url", OVERLOAD_CONNECTIONS, seconds, rate=flood)
    result["overload_url"] = run | {"asked_per_s": round(flood, 2)}
    return result


def compare_with_bars(runs: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each measured value beside its bar (the required value); the Poisson run has none."""
    cores = os.cpu_count() or 1
    reference, overload = runs["reference_url"], runs["overload_url"]
    # Ten times as many requests take ten times as much CPU of the client, on the same cores.
    left = (cores - overload["load_cores"]) / (cores - reference["load_cores"])
    goodput = overload["requests_per_s"] / (reference["requests_per_s"] * left)
    spread = {
        name: runs[name]["p99_ms"] / runs[name]["p50_ms"]
        for name in ("steady_even", "steady_poisson")
    }
    return [
        {
            "what": "p99 / p50 at 80 %, evenly spaced",
            "seen": round(spread["steady_even"], 3),
            "bar": P99_TO_P50,
            "met": spread["steady_even"] <= P99_TO_P50,
        },
        {"what": "p99 / p50 at 80 %, Poisson", "seen": round(spread["steady_poisson"], 3)},
        {
            "what": "goodput at 10 × by URL / (maximum × share of CPU left)",
            "seen": round(goodput, 3),
            "bar": GOODPUT_SHARE,
            "met": goodput >= GOODPUT_SHARE,
            "share_of_cpu_left": round(left, 3),
        },
        {
            "what": "p99 of accepted at 10 × / p99 at the maximum, by URL",
            "seen": round(overload["p99_ms"] / reference["p99_ms"], 3),
        },
    ]


def main() -> None:
    """Build a model, measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="xception", choices=ARCHITECTURE_NAMES)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each run")
    parser.add_argument("--precision", default="int8", choices=("f32", "bf16", "int8"))
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "architecture": options.architecture,
        "precision": options.precision,
    }
    with tempfile.TemporaryDirectory() as text:
        models, paths = Path(text) / "models", write_pictures(Path(text))
        run_child(MODELS, "build", models, options.architecture)
        with helper("pictures", *paths) as (port, pictures):
            service = start_ours(models, options.precision, port)
            runs = measure(Bench(service, pictures, port, paths), options.seconds)
            service.end()
    report |= {"runs": runs, "bars": compare_with_bars(runs)}
    print_figures(report, options.out)


if __name__ == "__main__":
    main()
