"""Fuzzes the decoders with many inputs and prints what came of them as JSON.

    python benchmarks/fuzz_decoders.py [--inputs 100000] [--engine atheris|mutator] [--seed 1]

`atheris` (where importable) is guided by coverage of `cspine.imaging`; `mutator` changes valid and
hostile files at random, most often in their headers. Every input must give an answer or an
ImageError; the exit code is 1 where one does not. It knows only `decode_image`.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import random
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "imaging")]

try:
    import atheris
except ImportError:
    atheris = None

if atheris is None:
    from cspine.imaging.decode import Limits, decode_image
else:
    # Coverage is seen only in modules that are imported under it.
    with atheris.instrument_imports(include=["cspine.imaging"], enable_loader_override=False):
        from cspine.imaging.decode import Limits, decode_image

from hostile_samples import (  # noqa: E402
    CODECS,
    CT,
    HOSTILE,
    JPEG,
    PNG,
    PROGRESSIVE,
    chunk,
    compressed,
    shipped_as_ct,
)
from imaging_samples import compress, make_picture, make_ramp  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.machine import describe_machine, resident_mib  # noqa: E402
from cspine.core.errors import ImageError  # noqa: E402
from cspine.imaging.codec_pool import shared_pool  # noqa: E402

LIMITS = Limits(max_bytes=1_000_000, max_pixels=1_000_000)
MAX_SEED_BYTES = 100_000
# Where counters overflow and signs turn over.
MAGIC_BYTES = (0, 1, 127, 128, 254, 255)


def list_seeds() -> list[bytes]:
    """Valid files of every kind and codec, and the hostile files that are not large."""
    valid = [PNG, JPEG, PROGRESSIVE, CT, compressed("1.2.840.10008.1.2.4.57", JPEG)]
    with tempfile.TemporaryDirectory() as folder:
        stored = make_ramp(48, 40).astype("uint16") * 16
        valid += [compress(Path(folder), "JPEGLosslessProcess14_1", stored, 12)]
    valid += [shipped_as_ct(name) for name in CODECS]
    grey = Image.fromarray(make_ramp(40, 30))
    valid += [make_picture(grey.convert(mode)) for mode in ("1", "P", "LA", "RGB", "RGBA")]
    valid += [make_picture(Image.fromarray(make_ramp(40, 30).astype("uint16") * 200))]
    return valid * 8 + [data for data in HOSTILE.values() if len(data) < MAX_SEED_BYTES]


class Tally:
    """What the inputs came to so far, and what they cost."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.count = wanted, 0
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.slowest_s = 0.0
        self.failures: list[str] = []
        self.resident_mib: list[float] = []

    def try_one(self, data: bytes) -> None:
        """Decode one input and count what came of it."""
        start = time.monotonic()
        try:
            outcome = f"answer ({decode_image(data, LIMITS).kind})"
        except ImageError as error:
            outcome = type(error).__name__
        except Exception:
            outcome = "failure"
            self.failures.append(traceback.format_exc(limit=-3))
        self.slowest_s = max(self.slowest_s, time.monotonic() - start)
        self.outcomes[outcome] += 1
        self.count += 1
        if self.count % max(self.wanted // 10, 1) == 0:
            # A leak shows as a rise from tenth to tenth.
            self.resident_mib.append(resident_mib())

    def report(self, engine: str) -> dict[str, object]:
        """The result as JSON values."""
        return {
            "machine": describe_machine(),
            "python": platform.python_version(),
            "engine": engine,
            "inputs": self.count,
            "outcomes": dict(self.outcomes.most_common()),
            "failures": self.failures[:5],
            "codec_children_lost": shared_pool().lost,
            "slowest_s": round(self.slowest_s, 3),
            "resident_mib_after_each_tenth": self.resident_mib,
        }


def mutate(seed: bytes, rng: random.Random) -> bytes:
    """The file with 1–16 random edits, six in ten of them in its first 400 bytes."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        end = min(len(data), 400) if rng.random() < 0.6 else len(data)
        at, size = rng.randrange(max(end, 1)), rng.randrange(1, 9)
        kind = rng.random()
        if kind < 0.4:
            data[at : at + 1] = rng.randbytes(1)
        elif kind < 0.65:
            data[at : at + size] = bytes([rng.choice(MAGIC_BYTES)]) * size
        elif kind < 0.8:
            del data[at : at + size]
        elif kind < 0.95:
            data[at:at] = rng.randbytes(size)
        else:
            del data[at + 1 :]
    return mend_checksums(bytes(data)) if rng.random() < 0.5 else bytes(data)


def mend_checksums(data: bytes) -> bytes:
    """A PNG with the checksum of every whole chunk made right, so that its contents are reached."""
    mended, position = data[:8], 8
    while data.startswith(PNG[:8]) and position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        if position + 12 + length > len(data):
            break
        mended += chunk(name, data[position + 8 : position + 8 + length])
        position += 12 + length
    return mended + data[position:]


def run_mutator(tally: Tally, seed: int) -> None:
    """Try `tally.wanted` mutations of the seeds."""
    rng, seeds = random.Random(seed), list_seeds()
    while tally.count < tally.wanted:
        tally.try_one(mutate(rng.choice(seeds), rng))


def run_atheris(tally: Tally, seed: int) -> None:
    """Let libFuzzer try inputs until there are enough; it never returns, so this exits."""

    def try_one(data: bytes) -> None:
        tally.try_one(data)
        if tally.count >= tally.wanted:
            finish(tally, "atheris")

    with tempfile.TemporaryDirectory() as corpus:
        for index, data in enumerate(list_seeds()):
            (Path(corpus) / str(index)).write_bytes(data)
        options = [f"-seed={seed}", f"-max_len={MAX_SEED_BYTES}", "-timeout=30", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, corpus], try_one)
        atheris.Fuzz()


def finish(tally: Tally, engine: str) -> None:
    """Print the report and end the process: 1 where an input failed, else 0."""
    print(json.dumps(tally.report(engine), indent=2), flush=True)
    shared_pool().close()
    os._exit(1 if tally.failures else 0)


def main() -> None:
    """Parse, fuzz, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--engine", choices=["atheris", "mutator"])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    engine = arguments.engine or ("mutator" if atheris is None else "atheris")
    tally = Tally(arguments.inputs)
    {"atheris": run_atheris, "mutator": run_mutator}[engine](tally, arguments.seed)
    finish(tally, engine)


if __name__ == "__main__":
    main()
