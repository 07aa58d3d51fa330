"""How the fuzz drivers try a parser: with two engines, a tally, and one report.

`mutator` tries inputs as they are drawn, spoilt at random. `atheris`, where it is importable,
starts from some of them and is guided by the lines of code that an input reaches. What is parsed,
and what a parser may raise, a `Target` says.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.machine import describe_machine, resident_mib

try:
    import atheris
except ImportError:
    atheris = None

LIMIT_S = 5.0
SEEDS = 200  # inputs that atheris starts from


def seen_by_atheris(*modules: str) -> AbstractContextManager[Any]:
    """A context in which those modules are to be imported: coverage is seen in no others."""
    if atheris is None:
        return nullcontext()
    return atheris.instrument_imports(list(modules), enable_loader_override=False)


@dataclass(frozen=True)
class Target:
    """One parser: where inputs come from, what it may raise, its share of all inputs.

    `parse` may return a word for what it read. `seeds` are what atheris starts from, by default
    some drawn inputs; `facts` are added to the report.
    """

    name: str
    draw: Callable[[random.Random], bytes]
    parse: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    share: float = 1.0
    seeds: tuple[bytes, ...] = ()
    facts: Callable[[], dict[str, object]] = dict


@dataclass
class Trial:
    """What the inputs of one parser came to so far, and what they cost."""

    target: Target
    wanted: int
    engine: str
    count: int = 0
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    resident: list[float] = field(default_factory=list)
    corpus: Path | None = None  # what atheris starts from

    def try_one(self, data: bytes) -> None:
        """Parse one input; after the last, print the report and end the process."""
        start = time.monotonic()
        try:
            read = self.target.parse(data)
            outcome = read if isinstance(read, str) else "read"
        except self.target.refusals as error:
            outcome = type(error).__name__
        except Exception:
            outcome = "failure"
            self.failures.append(f"{data[:200]!r}\n{traceback.format_exc(limit=-3)}")
        seconds = time.monotonic() - start
        if seconds > LIMIT_S:
            self.failures.append(f"{data[:200]!r}\n{seconds:.1f} s")
        self.slowest_s = max(self.slowest_s, seconds)
        self.outcomes[outcome] += 1
        self.count += 1
        if self.count % max(self.wanted // 10, 1) == 0:
            # A leak shows as a rise from tenth to tenth.
            self.resident.append(resident_mib())
        if self.count >= self.wanted:
            self.finish()

    def finish(self) -> NoReturn:
        """Print the report as JSON and end: 1 where an input failed, else 0."""
        report = {
            "machine": describe_machine(),
            "engine": self.engine,
            "inputs": self.count,
            "outcomes": dict(self.outcomes.most_common()),
            "failures": len(self.failures),
            "first_failures": self.failures[:5],
            "slowest_s": round(self.slowest_s, 3),
            "resident_mib_after_each_tenth": self.resident,
            **self.target.facts(),
        }
        print(json.dumps(report, indent=2), flush=True)
        if self.corpus is not None:
            shutil.rmtree(self.corpus)
        # Out of libFuzzer's loop there is no other way.
        os._exit(1 if self.failures else 0)


def fuzz(target: Target, engine: str, wanted: int, seed: int) -> NoReturn:
    """Try `wanted` inputs, print what came of them, and end the process."""
    trial, chance = Trial(target, wanted, engine), random.Random(f"{seed} {target.name}")
    while engine == "mutator":
        trial.try_one(target.draw(chance))
    seeds = target.seeds or tuple(target.draw(chance) for _ in range(SEEDS))
    trial.corpus = Path(tempfile.mkdtemp())
    for number, data in enumerate(seeds):
        (trial.corpus / str(number)).write_bytes(data)
    options = [
        f"-seed={seed}",
        f"-max_len={2 * max(map(len, seeds))}",
        "-timeout=30",
        "-verbosity=0",
        f"-artifact_prefix={tempfile.gettempdir()}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(trial.corpus)], trial.try_one)
    atheris.Fuzz()
    raise RuntimeError("atheris came back")


def make_parser(doc: str) -> argparse.ArgumentParser:
    """The options that both drivers have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    engines = ["mutator"] if atheris is None else ["atheris", "mutator"]
    parser.add_argument("--engine", choices=engines, default=engines[0])
    parser.add_argument("--seed", type=int, default=1)
    return parser
