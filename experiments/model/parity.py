"""Compare the answers of a running service with those of `python -m cspine evaluate`.

    python -m experiments.model.parity [--model models] [--patients 25] [--seed 1004]
        [--precision f32]

Writes unseen synthetic slices (8 per patient) as PNGs, evaluates them with
`python -m cspine evaluate`, and posts the same files to `predict_flask.py` over HTTP, both at the
same CSPINE_PRECISION. Compares every probability and every decision. Bars (required values):
probabilities differ by at most 1e-3, and no decision differs. Prints JSON.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.service_processes import start_ours
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.grouped import write_grouped

ROOT = Path(__file__).parents[2]

LARGEST_DIFFERENCE = 1e-3


def ask_server(port: int, files: list[Path]) -> list[dict[str, Any]]:
    """Return the service's answer for each file, with one request per file."""
    answers = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for file in files:
        connection.request("POST", "/predict", file.read_bytes(), {"Content-Type": "image/png"})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"the service answered {response.status}: {text[:200]!r}")
        answers.append(json.loads(text))
    connection.close()
    return answers


def evaluate_folder(model: Path, data: Path, out: Path, precision: str) -> list[dict[str, str]]:
    """Return the rows that `python -m cspine evaluate` writes for a folder."""
    command = [
        sys.executable,
        "-m",
        "cspine",
        "evaluate",
        str(data),
        "--models",
        str(model.resolve()),
        "--out",
        str(out),
        # Few resamples suffice: only answers.csv is read, which has no intervals.
        "--resamples",
        "20",
    ]
    settings = {"CSPINE_PRECISION": precision}
    subprocess.run(command, cwd=ROOT, env=os.environ | settings, check=True)
    with (out / "answers.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def compare(rows: list[dict[str, str]], served: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the largest difference of a probability, and how many answers differ otherwise."""
    differences = [0.0]
    other = Counter(prediction=0, in_distribution=0, has_probability=0)
    for row, answer in zip(rows, served, strict=True):
        other["prediction"] += row["prediction"] != answer["prediction"]
        other["in_distribution"] += (row["in_distribution"] == "True") != answer["in_distribution"]
        # A slice without a vertebra has an empty cell in the table and null in the answer.
        if (row["probability"] == "") != (answer["probability"] is None):
            other["has_probability"] += 1
        elif answer["probability"] is not None:
            differences.append(abs(float(row["probability"]) - answer["probability"]))
    return {
        "slices": len(rows),
        "largest_probability_difference": max(differences),
        "differing": dict(other),
        "answers": dict(Counter(answer["prediction"] for answer in served)),
        "bars": {
            "probabilities_agree": max(differences) <= LARGEST_DIFFERENCE,
            "decisions_agree": not any(other.values()),
        },
    }


def main() -> None:
    """Evaluate, ask the service, compare, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--patients", type=int, default=25, help="synthetic patients")
    parser.add_argument("--seed", type=int, default=1004, help="must not be a training set's seed")
    parser.add_argument("--precision", choices=("f32", "bf16", "int8"), default="f32")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_grouped(
            Path(folder) / "set", PhantomConfig(patients=arguments.patients, seed=arguments.seed)
        )
        rows = evaluate_folder(arguments.model, data, Path(folder) / "out", arguments.precision)
        service = start_ours(arguments.model.resolve(), arguments.precision)
        try:
            served = ask_server(service.port, [data / row["path"] for row in rows])
        finally:
            service.end()
    report = {
        "machine": describe_machine(),
        "model": served[0]["model"],
        "precision": arguments.precision,
        "seed": arguments.seed,
        **compare(rows, served),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
