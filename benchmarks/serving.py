"""Compare throughput, latency, CPU and memory of our service with those of a plain Flask service.

    python -m benchmarks.serving [--architectures cnn …] [--clients 1 2 8 32] [--seconds 6]

The plain service is what a careful user would write: Flask, Waitress, Keras on TensorFlow and
`model.predict`, warmed up. Both services get the same 512² PNGs from the same clients, one after
the other. Services and clients share the machine, so the clients' CPU time lowers both rates. Our
service runs without its answer cache and, by default, at int8. The precision that `auto` chooses
for random weights is reported with its rate.

The machine's limit is the number of its cores ÷ the CPU seconds that an image takes in the engine,
the decoder, the resize and the load client together; each is measured alone. `bars` holds the
required and the measured values. `load_client.py`, `service_processes.py` and `random_models.py`
are parts of this benchmark. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.load_client import Job, Part, upload_parts, ways_to_ask
from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from benchmarks.service_processes import (
    Service,
    free_port,
    helper,
    run_child,
    run_client,
    start_ours,
    write_pictures,
)
from cspine.core.labels import ARCHITECTURE_NAMES

MODELS = "benchmarks.random_models"
AT_LEAST_FASTER = {"resnet50v2": 6.0, "inceptionv3": 6.0, "xception": 5.0}  # rate at 8 clients
AT_LEAST_SOONER = {"resnet50v2": 5.0, "inceptionv3": 4.0, "xception": 5.0}  # p50 at 1 client
# The bars (required values) were set before anything was measured.
AT_LEAST_OF_LIMIT, AT_LEAST_BY_URL = 0.85, 0.85
READY_S, READY_FROM_H5_S, RESIDENT_MB = 2.0, 4.0, 400
MANY = 8


def measure_architecture(
    name: str, options: argparse.Namespace, paths: list[Path]
) -> dict[str, Any]:
    """Return all figures of one architecture."""
    seconds = options.seconds
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "models"
        run_child(MODELS, "build", folder, name)
        alone = {
            "engine": json.loads(run_child(MODELS, "engine", folder, options.precision, seconds)),
            "stages": json.loads(run_child(MODELS, "stages", name, seconds, *paths)),
            "client": measure_client(paths, seconds),
        }
        figures: dict[str, Any] = {
            "alone": alone,
            "limit_per_s": find_limit(alone),
            "plain": measure_plain(folder, options, paths),
            "ours": measure_ours(folder, options, paths),
            "auto": measure_auto(folder, options, paths),
            "start": measure_starts(folder, Path(parent) / "bare", options.precision),
        }
    figures["bars"] = compare_with_bars(name, figures)
    return figures


def measure_client(paths: list[Path], seconds: float) -> float:
    """Return the load client's CPU seconds per upload."""
    # The answerer sends the same bytes to every request and costs almost no CPU itself.
    with helper("answerer") as (port, _):
        figures = run_client(Job(port, _uploads(paths), "image/png", MANY, seconds))
    return float(figures["client_cpu_s_per_request"])


def find_limit(alone: dict[str, Any]) -> float:
    """Return the requests per second that the cores allow if only the named parts took CPU."""
    stages = alone["stages"]
    spent = alone["engine"]["cpu_s_per_image"] + stages["decode"] + stages["resize_vertebra"]
    return round((os.cpu_count() or 1) / (spent + alone["client"]), 2)


def measure_plain(folder: Path, options: argparse.Namespace, paths: list[Path]) -> dict[str, Any]:
    """Return the plain service's figures for each number of clients."""
    port = free_port()
    command = [sys.executable, "-m", MODELS, "--role", "plain", str(folder), str(port)]
    service = Service(command, port, {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"})
    result: dict[str, Any] = {"ready_s": service.ready_s}
    for clients in options.clients:
        job = Job(port, _uploads(paths), "image/png", clients, options.seconds)
        result[str(clients)] = service.measure(job)
    service.end()
    return result


def measure_ours(folder: Path, options: argparse.Namespace, paths: list[Path]) -> dict[str, Any]:
    """Return our service's figures by upload and by URL, for each number of clients."""
    result: dict[str, Any] = {"upload": {}, "url": {}}
    with helper("pictures", *paths) as (pictures_port, pictures):
        service = start_ours(folder, options.precision, pictures_port)
        ways = ways_to_ask([path.read_bytes() for path in paths], pictures_port)
        for clients in options.clients:
            for way, (parts, kind) in ways.items():
                # The picture server shares the cores, so its share is reported separately.
                before = sum(pictures.cpu_times()[:2])
                job = Job(service.port, parts, kind, clients, options.seconds)
                figures = service.measure(job)
                served_s = sum(pictures.cpu_times()[:2]) - before
                figures["picture_server_cpu_s_per_request"] = round(served_s / figures["sent"], 5)
                result[way][str(clients)] = figures
        service.end()
    return result


def measure_auto(folder: Path, options: argparse.Namespace, paths: list[Path]) -> dict[str, Any]:
    """Return the precision that `auto` chose, and the figures of uploads from MANY clients."""
    service = start_ours(folder, "auto")
    result = {"chose": service.precision()}
    result |= service.measure(
        Job(service.port, _uploads(paths), "image/png", MANY, options.seconds)
    )
    service.end()
    return result


def measure_starts(folder: Path, bare: Path, precision: str) -> dict[str, Any]:
    """Return the seconds from process start to ready, and the memory then.

    Measured with the IR in the folder, and with only `best.h5`.
    """
    bare.mkdir()
    shutil.copy(folder / "best.h5", bare)
    result = {}
    for label, place, numbers in (
        (f"ir_{precision}", folder, precision),
        ("ir_f32", folder, "f32"),
        ("h5_f32", bare, "f32"),
    ):
        service = start_ours(place, numbers)
        resident = service.resident_mb_when_ready
        result[label] = {"ready_s": service.ready_s, "resident_mb": resident}
        service.end()
    return result


def compare_with_bars(name: str, figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each measured value beside its bar, for the values that this run measured."""
    plain, upload, url = figures["plain"], figures["ours"]["upload"], figures["ours"]["url"]
    one, many = "1", str(MANY)
    bars = []

    def add(what: str, seen: float, bar: float, at_least: bool = True) -> None:
        met = seen >= bar if at_least else seen <= bar
        bars.append({"what": what, "seen": round(seen, 3), "bar": bar, "met": met})

    def rate(row: dict[str, Any]) -> float:
        # Avoids a division by zero if a service answered no request.
        return max(0.01, float(row["requests_per_s"]))

    if name in AT_LEAST_FASTER:
        if many in upload:
            faster = rate(upload[many]) / rate(plain[many])
            add("rate by upload at 8 clients / plain's", faster, AT_LEAST_FASTER[name])
        if one in upload:
            sooner = plain[one]["p50_ms"] / upload[one]["p50_ms"]
            add("plain's p50 at 1 client / ours", sooner, AT_LEAST_SOONER[name])
        best = max(rate(row) for row in upload.values())
        add("best rate by upload / limit", best / figures["limit_per_s"], AT_LEAST_OF_LIMIT)
    if many in upload:
        add(
            "rate by URL / by upload at 8 clients",
            rate(url[many]) / rate(upload[many]),
            AT_LEAST_BY_URL,
        )
    for label, start in figures["start"].items():
        bar = READY_S if label.startswith("ir") else READY_FROM_H5_S
        add(f"seconds to ready, {label}", start["ready_s"], bar, at_least=False)
        if name == "resnet50v2" and label.startswith("ir"):
            add(f"resident MB, {label}", start["resident_mb"], RESIDENT_MB, at_least=False)
    # The bar on memory is set for this network only.
    if name == "resnet50v2":
        held = max(float(row["resident_mb"]) for row in (*upload.values(), *url.values()))
        add("resident MB after the load", held, RESIDENT_MB, at_least=False)
        auto = figures["auto"]
        add(
            f"resident MB after the load, auto ({auto['chose']})",
            auto["resident_mb"],
            RESIDENT_MB,
            at_least=False,
        )
    return bars


def _uploads(paths: list[Path]) -> list[Part]:
    return upload_parts([path.read_bytes() for path in paths])


def main() -> None:
    """Run everything and print JSON; the bars of each architecture also go to stderr."""
    names = ARCHITECTURE_NAMES
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", nargs="+", default=list(names), choices=names)
    parser.add_argument(
        "--clients", nargs="+", type=int, default=[1, 2, 8, 32], help="numbers of clients"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each measurement")
    parser.add_argument("--precision", default="int8", choices=("f32", "bf16", "int8"))
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "precision": options.precision,
        "seconds": options.seconds,
        "results": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder))
        for name in options.architectures:
            report["results"][name] = measure_architecture(name, options, paths)
            print(json.dumps({name: report["results"][name]["bars"]}), file=sys.stderr, flush=True)
    print_figures(report, options.out)


if __name__ == "__main__":
    main()
