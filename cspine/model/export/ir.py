"""From `best.h5` to OpenVINO's IR, by a child process on Keras's OpenVINO backend.

The child keeps Keras, and whatever backend trained the model, out of the serving process. An IR
carries the SHA-256 of the `.h5` it was made from and of its own `.bin`; one that does not match is
no IR of that model. One that does may still be anybody's; only a card's hashes tell. `convert.py`
is the child's half and imports Keras; this half does not.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ArtifactError
from cspine.core.process import bare_environment
from cspine.model.store.hashes import MAX_FILE_BYTES, hash_file

IR_NAME = "best.xml"
INT8_NAME = "best_int8.xml"
RT_INFO = "cspine"
# Ten times the largest of ours. It is parsed before its records can be read.
MAX_XML_BYTES = 16 * 1024 * 1024
# It takes seconds; on a machine that swaps, minutes.
CHILD_TIMEOUT_S = 300


def export_ir(h5_path: Path, out_dir: Path) -> Path:
    """Make the IR of `h5_path` in `out_dir` and return the `.xml`'s path (same stem as the `.h5`).

    Raises:
        PermissionError: `out_dir` cannot be written.
        ArtifactError: the child refused the `.h5`, with its reason, or took over 300 s.
    """
    if not os.access(out_dir, os.W_OK):
        raise PermissionError(f"{out_dir} cannot be written")
    command = [sys.executable, "-m", "cspine.model.export", str(h5_path.resolve())]
    # So that the child finds this package, installed or not.
    root = Path(__file__).resolve().parents[3]
    try:
        child = subprocess.run(
            [*command, str(out_dir.resolve())],
            cwd=root,
            # Keras's own export goes through a temporary folder.
            env=bare_environment() | {"TMPDIR": str(out_dir.resolve())},
            capture_output=True,
            text=True,
            timeout=CHILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"Export must end in {CHILD_TIMEOUT_S} s. Received: more") from error
    if child.returncode != 0:
        # The last line is the reason; Keras and OpenVINO write theirs before.
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise ArtifactError(f"{h5_path.name} could not be exported: {last}")
    return out_dir / f"{h5_path.stem}.xml"


@dataclass(frozen=True)
class MappedNetwork:
    """A network whose weights are the mapped bytes of its `.bin`.

    `weights` must be kept for as long as the network, or anything compiled from it, is.
    """

    network: ov.Model
    weights: mmap.mmap
    weights_sha256: str

    def drop_pages(self) -> None:
        """Give the weights' memory back: what is compiled has its own copy, laid out its own way.

        The bytes stay mapped, and are read from the file again should anybody look.
        """
        # Not on every system, and nothing depends on it.
        if hasattr(mmap, "MADV_DONTNEED"):
            self.weights.madvise(mmap.MADV_DONTNEED)


def map_ir(
    path: Path, h5_sha256: str, listed: tuple[str | None, str | None] | None = None
) -> MappedNetwork | None:
    """The network in `path` over its mapped `.bin`, or None unless it is as `read_ir` asks.

    With `listed`, the SHA-256 of `.xml` and `.bin`, others are not parsed: a few kilobytes of XML
    can make OpenVINO take any time and memory.
    """
    try:
        parts = _read_parts(path)
    # ValueError: the `.bin` was emptied meanwhile.
    except (OSError, ValueError):
        parts = None
    if parts is None:
        return None
    text, weights = parts
    # Of what is parsed and mapped: the files may have been replaced since.
    weights_sha256 = hashlib.sha256(weights).hexdigest()
    if listed is not None and listed != (hashlib.sha256(text).hexdigest(), weights_sha256):
        return None
    tensor = ov.Tensor(np.frombuffer(weights, np.uint8), shared_memory=True)
    try:
        network = ov.Core().read_model(text, tensor)
    except RuntimeError:
        return None
    whole = _read_records(network) == (h5_sha256, weights_sha256)
    return MappedNetwork(network, weights, weights_sha256) if whole else None


def _read_parts(path: Path) -> tuple[bytes, mmap.mmap] | None:
    """The `.xml` and the mapped `.bin`; None where one is missing, or of no size of ours."""
    bin_path = path.with_suffix(".bin")
    if not (path.is_file() and bin_path.is_file()):
        return None
    # `mmap` refuses an empty file, and a sparse one may claim more than there is memory for.
    if not 0 < bin_path.stat().st_size <= MAX_FILE_BYTES:
        return None
    with path.open("rb") as file:
        text = file.read(MAX_XML_BYTES + 1)
    if len(text) > MAX_XML_BYTES:
        return None
    with bin_path.open("rb") as file:
        # OpenVINO takes writable memory only; a private mapping is that, and nothing writes to it.
        return text, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def read_ir(path: Path, h5_sha256: str) -> ov.Model | None:
    """The network in `path`, or None unless it is whole and was made from that `.h5`."""
    weights = path.with_suffix(".bin")
    if not (path.is_file() and weights.is_file()):
        return None
    try:
        network = ov.Core().read_model(path)
    except RuntimeError:
        return None
    return network if _read_records(network) == (h5_sha256, hash_file(weights)) else None


RECORDS = ("h5_sha256", "bin_sha256")


def _read_records(network: ov.Model) -> tuple[str, ...] | None:
    """The two hashes that `write_ir` left in a network, None where it left none."""
    try:
        return tuple(network.get_rt_info([RT_INFO, name]).astype(str) for name in RECORDS)
    except RuntimeError:
        return None


def write_ir(network: ov.Model, path: Path, h5_sha256: str) -> None:
    """Write a network as `path` (.xml) and its `.bin`, with the hashes that `read_ir` asks for.

    Both appear whole, the `.bin` first.
    """
    network.set_rt_info(h5_sha256, [RT_INFO, RECORDS[0]])
    weights_path = path.with_suffix(".bin")
    # Not durable: a start makes some that it throws away, and a publication copies them.
    # The inner one ends first: a reader between the two finds a mismatch, and makes its own.
    with written_whole(path, False) as part, written_whole(weights_path, False) as weights:
        ov.serialize(network, part, weights)
        # Only now known: the hash is of the `.bin` that the first pass wrote; the second writes
        # the same.
        network.set_rt_info(hash_file(weights), [RT_INFO, RECORDS[1]])
        ov.serialize(network, part, weights)
