"""Fuzzes every parser but the pictures' with spoilt inputs and prints what came of them as JSON.

    python -m tests.fuzz.fuzz_parsers [--inputs 100000] [--engine atheris|mutator] [--seed 1]

URLs and redirects, HTTP itself, request JSON and base64, V2 requests in JSON and binary, model
cards, TOML and model files, each in a process of its own; pictures have `fuzz_decoders.py`. Every
input must be read, or refused with the one kind of error that its parser names; the exit code is 1
where one is not, or takes over 5 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from tests.fuzz.harness import fuzz, make_parser
from tests.fuzz.parser_targets import MODELS, list_targets


def try_in_child(target: str, folder: Path) -> dict[str, Any]:
    """The report of a process that fuzzes one parser; without one, how the process ended."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz_parsers", *sys.argv[1:], "--target", target],
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        return {"failures": 1, "exit_code": done.returncode, "said": done.stderr[-2000:]}
    # Of all children the same.
    return {key: value for key, value in report.items() if key not in ("machine", "engine")}


def main() -> int:
    """Give each parser a child of its own, and gather what the children say."""
    parser = make_parser(__doc__)
    parser.add_argument("--target", help="one parser by name, fuzzed in this process")
    given = parser.parse_args()
    results, machine = {}, describe_machine()
    with tempfile.TemporaryDirectory() as name:
        for target in list_targets(Path(name), MODELS):
            wanted = round(given.inputs * target.share)
            if given.target == target.name:
                fuzz(target, given.engine, wanted, given.seed)
            if given.target is None:
                results[target.name] = try_in_child(target.name, Path(name))
    failures = sum(one["failures"] for one in results.values())
    print(
        json.dumps(
            {
                "machine": machine,
                "engine": given.engine,
                "failures": failures,
                "inputs": sum(one.get("inputs", 0) for one in results.values()),
                "parsers": results,
            },
            indent=2,
        )
    )
    return 1 if failures or not results else 0


if __name__ == "__main__":
    sys.exit(main())
