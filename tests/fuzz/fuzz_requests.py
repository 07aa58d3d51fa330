"""Sends a real service many spoilt requests and prints what came of them as JSON.

    python -m tests.fuzz.fuzz_requests [--requests 10000] [--warm-up 2000] [--seed 1] [--models DIR]

The service is `predict_flask.py` in a process of its own, asked by several clients at once. The
exit code is 1 where it crashed, an answer took more than 5 s, a whole request had no answer, one
was 5xx other than 503 with Retry-After, or resident memory left 10 % of its value after the
warm-up. The warm-up fills the answer cache to its bound in bytes, which it would otherwise reach
some time during the run, and sends requests of the same kinds from another seed.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import random
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

import requests

from benchmarks.machine import describe_machine
from tests.support.hostile_requests import Answer, Requests, exchange
from tests.support.hostile_samples import CODECS, CT, HOSTILE, JPEG, PNG, shipped_as_ct
from tests.support.real_service import RealService, running
from tests.support.tiny_model import as_png, draw_neck

CLIENTS = 8
MAX_QUEUE = 4  # fewer than clients, so that refusals happen, too
# Pictures of 1024 × 1024 remembered with their pixels: more than the cache holds.
CACHED = 80
MAX_HOSTILE_BYTES = 100_000
MEMORY_SHARE = 0.10
SAMPLES = 20


def list_images() -> tuple[bytes, ...]:
    """Good files of every kind, several times each, and the hostile ones that are not large."""
    good = (PNG, JPEG, CT, as_png(draw_neck(512)), *map(shipped_as_ct, CODECS))
    return good * 8 + tuple(d for d in HOSTILE.values() if len(d) < MAX_HOSTILE_BYTES)


class Tally:
    """What the answers came to so far, from all clients."""

    def __init__(self, service: RealService, wanted: int) -> None:
        self.service, self.wanted = service, wanted
        self.numbers = itertools.count()
        self.lock = threading.Lock()
        self.statuses: collections.Counter[int] = collections.Counter()
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self.resident_mib: list[float] = []

    def add(self, request: bytes, answer: Answer) -> None:
        """Count one answer; sample the service's memory now and then."""
        with self.lock:
            self.statuses[answer.status] += 1
            self.seconds.append(answer.seconds)
            if fault := answer.fault():
                self.failures.append(f"{fault}: {request[:300]!r} -> {answer.body[:300]!r}")
            if len(self.seconds) % max(self.wanted // SAMPLES, 1) == 0:
                self.resident_mib.append(round(self.service.status("VmRSS") / 1024, 1))


def fuzz(tally: Tally, seed: int) -> None:
    """Send `tally.wanted` requests from several threads, each with a chance of its own."""
    images = list_images()

    def ask(client: int) -> None:
        requests = Requests(random.Random(1000 * seed + client), images)
        # One count for all clients; `next` on it needs no lock.
        while next(tally.numbers) < tally.wanted:
            request = requests.draw()
            tally.add(request, exchange(tally.service.port, request))

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(ask, range(CLIENTS)))


def fill_cache(service: RealService) -> None:
    """Ask for more explained pictures than the service remembers."""
    for seed in range(CACHED):
        service.post(as_png(draw_neck(1024, seed)), "?explain=image", timeout=60).raise_for_status()


def measure(service: RealService, arguments: argparse.Namespace) -> dict[str, Any]:
    """Warm up, fuzz, and return the result as JSON values."""
    started = round(service.status("VmRSS") / 1024, 1)
    fill_cache(service)
    full = round(service.status("VmRSS") / 1024, 1)
    warm = Tally(service, arguments.warm_up)
    fuzz(warm, arguments.seed + 1)
    before = round(service.status("VmRSS") / 1024, 1)
    tally = Tally(service, arguments.requests)
    began = time.monotonic()
    fuzz(tally, arguments.seed)
    after = max((*tally.resident_mib, service.status("VmRSS") / 1024))
    seconds = sorted(tally.seconds)
    crashed = service.process.poll() is not None or not service.is_ready()
    tracebacks = service.log.read_text(errors="replace").count("Traceback")
    failures = tally.failures + ["the service ended"] * crashed
    failures += [f"{tracebacks} tracebacks in the log"] * bool(tracebacks)
    if after > before * (1 + MEMORY_SHARE):
        failures.append(f"resident memory rose from {before} to {after} MiB")
    return {
        "machine": describe_machine(),
        "requests": len(seconds),
        "clients": CLIENTS,
        "statuses": {str(key): count for key, count in sorted(tally.statuses.items())},
        "failures": len(failures),
        "first_failures": failures[:5],
        "slowest_s": round(seconds[-1], 3),
        "median_s": round(seconds[len(seconds) // 2], 4),
        "took_s": round(time.monotonic() - began, 1),
        "warm_up_requests": arguments.warm_up,
        "resident_mib_at_start": started,
        "resident_mib_with_the_cache_full": full,
        "resident_mib_in_warm_up": warm.resident_mib,
        "resident_mib_after_warm_up": before,
        "resident_mib": tally.resident_mib,
        "most_over_warm_up_percent": round(100 * (after / before - 1), 1),
    }


def main() -> int:
    """Parse, start the service, fuzz, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--warm-up", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        # Its pictures have no mark, and are to reach the network of the shipped model all the same.
        settings = {"model_dir": str(arguments.models), "max_queue": str(MAX_QUEUE)}
        with running(log, answer_synthetic="on", **settings) as service:
            result = measure(service, arguments)
            result["inferences"] = count_inferences(service)
    print(json.dumps(result, indent=2))
    return 1 if result["failures"] or not result["inferences"] else 0


def count_inferences(service: RealService) -> int:
    """Return how many images the network of a service has computed."""
    text = requests.get(f"{service.url}/metrics", timeout=10).text
    name = 'cspine_stage_seconds_count{stage="inference"} '
    return int(float(text.partition(name)[2].split()[0]))


if __name__ == "__main__":
    sys.exit(main())
