"""Valid files with bytes changed, cut and moved: an answer or an ImageError, nothing else."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cspine.core.errors import ImageError
from cspine.imaging.decode import Limits, decode_image
from cspine.imaging.image_headers import read_orientation
from support.hostile_samples import CODECS, CT, HOSTILE, JPEG, PNG, PROGRESSIVE, shipped_as_ct
from support.imaging_samples import compress, make_ramp

LIMITS = Limits(max_bytes=1_000_000, max_pixels=1_000_000)
with tempfile.TemporaryDirectory() as folder:
    LOSSLESS = compress(Path(folder), "JPEGLosslessProcess14_1", make_ramp(48, 40).astype("u2"), 12)
SEEDS = [PNG, JPEG, PROGRESSIVE, CT, LOSSLESS, *map(shipped_as_ct, CODECS)]
ALL = settings(deadline=None, suppress_health_check=list(HealthCheck))


def answer(data: bytes) -> None:
    """Decode; any exception but ImageError fails the test."""
    try:
        decoded = decode_image(data, LIMITS)
    except ImageError as error:
        assert "Received: " in str(error)
    else:
        assert decoded.grey.dtype == np.uint8 and decoded.grey.ndim == 2
        assert 0 < decoded.grey.size <= LIMITS.max_pixels
        assert decoded.hu is None or np.isfinite(decoded.hu).all()


edit = st.tuples(
    st.sampled_from(["set", "cut", "insert", "move", "end"]),
    # Where; headers twice as often.
    st.one_of(st.floats(0, 0.1), st.floats(0, 1)),
    st.one_of(
        st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80", b"\xff" * 4, bytes(4)]),
        st.binary(min_size=1, max_size=8),
    ),
)


def change(data: bytes, kind: str, where: float, value: bytes) -> bytes:
    at = int(where * max(len(data) - 1, 0))
    if kind == "set":
        return data[:at] + value + data[at + len(value) :]
    if kind == "cut":
        return data[:at] + data[at + len(value) :]
    if kind == "insert":
        return data[:at] + value + data[at:]
    if kind == "move":
        return data[:at] + data[at + 40 : at + 80] + data[at : at + 40] + data[at + 80 :]
    return data[: at + 1]


@given(st.sampled_from(SEEDS), st.lists(edit, min_size=1, max_size=6))
@settings(ALL, max_examples=400)
def test_changed_files(seed, edits):
    for kind, where, value in edits:
        seed = change(seed, kind, where, value)
    answer(seed)


@given(st.sampled_from(sorted(HOSTILE)), st.lists(edit, min_size=1, max_size=3))
@settings(ALL, max_examples=100)
def test_changed_hostile_files(name, edits):
    data = HOSTILE[name]
    for kind, where, value in edits:
        data = change(data, kind, where, value)
    answer(data)


@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", bytes(128) + b"DICM"]),
    st.binary(max_size=400),
)
@settings(ALL, max_examples=200)
def test_noise_after_a_signature(signature, noise):
    answer(signature + noise)


@given(st.sampled_from([b"II*\0", b"MM\0*", b""]), st.binary(max_size=60))
@settings(ALL, max_examples=200)
def test_exif_noise_has_an_orientation(order, noise):
    assert 1 <= read_orientation(order + noise) <= 8
