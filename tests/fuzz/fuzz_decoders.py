"""Fuzzes the decoders with many inputs and prints what came of them as JSON.

    python -m tests.fuzz.fuzz_decoders [--inputs 100000] [--engine atheris|mutator] [--seed 1]

`atheris` (where importable) is guided by coverage of `cspine.imaging`; `mutator` changes valid and
hostile files at random, most often in their headers. Every input must give an answer or an
ImageError within 5 s; the exit code is 1 where one does not. It knows only `decode_image`.
"""

from __future__ import annotations

import random
import struct
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

from tests.fuzz.harness import Target, fuzz, make_parser, seen_by_atheris

with seen_by_atheris("cspine.imaging"):
    from cspine.imaging.decode import Limits, decode_image

from PIL import Image

from cspine.core.errors import ImageError
from cspine.imaging.dicom.codec_pool import shared_pool
from tests.support.hostile_samples import (
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
from tests.support.imaging_samples import compress, make_picture, make_ramp

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


def main() -> None:
    """Parse, fuzz, report."""
    given, seeds = make_parser(__doc__).parse_args(), tuple(list_seeds())
    target = Target(
        "pictures",
        lambda chance: mutate(chance.choice(seeds), chance),
        lambda data: f"read ({decode_image(data, LIMITS).kind})",
        (ImageError,),
        seeds=seeds,
        facts=end_codecs,
    )
    fuzz(target, given.engine, given.inputs, given.seed)


def end_codecs() -> dict[str, object]:
    """End the codec children, and say how many were lost."""
    lost = shared_pool().lost
    shared_pool().close()
    return {"codec_children_lost": lost}


if __name__ == "__main__":
    main()
