"""Export of `best.h5` to OpenVINO's IR, by a child process with Keras's OpenVINO backend.

The IR is OpenVINO's format of a network: an `.xml` of the graph and a `.bin` of the weights.
The child process keeps Keras and its training backend out of the serving process. An IR records the
SHA-256 of the `.h5` from which it was made and of its own `.bin`; if a hash does not match, the IR
is not used. Matching records can still be forged; only a card's hashes prove the origin.
`convert.py` is the child's part and imports Keras; this module does not.
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
# Ten times our largest. The limit is needed because a file is parsed before its records are read.
MAX_XML_BYTES = 16 * 1024 * 1024
# An export takes seconds, but minutes on a machine that swaps.
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
    # The child runs here, so that it finds this package even if it is not installed.
    root = Path(__file__).resolve().parents[3]
    try:
        child = subprocess.run(
            [*command, str(out_dir.resolve())],
            cwd=root,
            # Keras's own export writes to a temporary folder.
            env=bare_environment() | {"TMPDIR": str(out_dir.resolve())},
            capture_output=True,
            text=True,
            timeout=CHILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"Export must end within {CHILD_TIMEOUT_S} s. Received: more"
        ) from error
    if child.returncode != 0:
        # The last line is the reason; earlier lines are from Keras and OpenVINO.
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise ArtifactError(f"{h5_path.name} could not be exported: {last}")
    return out_dir / f"{h5_path.stem}.xml"


@dataclass(frozen=True)
class MappedNetwork:
    """A network whose weights are the mapped bytes of its `.bin`.

    Keep `weights` as long as the network, or a network compiled from it, exists.
    """

    network: ov.Model
    weights: mmap.mmap
    weights_sha256: str

    def drop_pages(self) -> None:
        """Free the weights' memory, since a compiled network has its own copy in its own layout.

        The bytes stay mapped, and are read from the file again on the next access.
        """
        # Some systems do not offer this, and nothing depends on it.
        if hasattr(mmap, "MADV_DONTNEED"):
            self.weights.madvise(mmap.MADV_DONTNEED)


def map_ir(
    path: Path, h5_sha256: str, listed: tuple[str | None, str | None] | None = None
) -> MappedNetwork | None:
    """Return the network in `path` with its mapped `.bin`, or None if `read_ir` would refuse it.

    `listed` are the SHA-256 of `.xml` and `.bin`: if given, files with other hashes are not parsed,
    because a few kilobytes of XML can make OpenVINO use unlimited time and memory.
    """
    try:
        parts = _read_parts(path)
    # `mmap` raises ValueError if the `.bin` was emptied meanwhile.
    except (OSError, ValueError):
        parts = None
    if parts is None:
        return None
    text, weights = parts
    # The hashes are of the bytes read and mapped, because the files may have been replaced since.
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
    """Return the `.xml` and the mapped `.bin`; None if one is missing or has a forbidden size."""
    bin_path = path.with_suffix(".bin")
    if not (path.is_file() and bin_path.is_file()):
        return None
    # `mmap` refuses an empty file, and a sparse file may claim to be larger than the memory.
    if not 0 < bin_path.stat().st_size <= MAX_FILE_BYTES:
        return None
    with path.open("rb") as file:
        text = file.read(MAX_XML_BYTES + 1)
    if len(text) > MAX_XML_BYTES:
        return None
    with bin_path.open("rb") as file:
        # OpenVINO needs writable memory. A private mapping is writable, and nothing writes to it.
        return text, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def read_ir(path: Path, h5_sha256: str) -> ov.Model | None:
    """Return the network in `path`, or None if it is incomplete or made from another `.h5`."""
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
    """Return the two hashes that `write_ir` recorded in a network, or None if there are none."""
    try:
        return tuple(network.get_rt_info([RT_INFO, name]).astype(str) for name in RECORDS)
    except RuntimeError:
        return None


def write_ir(network: ov.Model, path: Path, h5_sha256: str) -> None:
    """Write a network as `path` (.xml) and its `.bin`, with the hashes that `read_ir` compares.

    Each file appears only when it is complete, the `.bin` first.
    """
    network.set_rt_info(h5_sha256, [RT_INFO, RECORDS[0]])
    weights_path = path.with_suffix(".bin")
    # Not durable, because these files are either temporary or copied when a model is published.
    # The `.bin` appears first: a reader between the two finds a mismatch and makes its own IR.
    with written_whole(path, False) as part, written_whole(weights_path, False) as weights:
        ov.serialize(network, part, weights)
        # The hash is known only after the first pass has written the `.bin`; the second pass writes
        # the same `.bin` again.
        network.set_rt_info(hash_file(weights), [RT_INFO, RECORDS[1]])
        ov.serialize(network, part, weights)
