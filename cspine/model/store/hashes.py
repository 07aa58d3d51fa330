"""SHA-256 of model files, with a bound on their size."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cspine.core.errors import ArtifactError

# The largest network here has under 100 MB of weights. A sparse file claims a TiB at no cost.
MAX_FILE_BYTES = 512 * 2**20
# Few pieces: after each one a thread must win Python's lock back from whatever is being imported.
_HASHED_AT_ONCE = 8 * 1024 * 1024


def hash_file(path: Path) -> str:
    """SHA-256 of a model's file, in hex.

    Raises:
        ArtifactError: the file is larger than any of ours, and not read.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ArtifactError(
            f"`{path.name}` must be at most {MAX_FILE_BYTES} bytes. Received: {size}"
        )
    digest, buffer = hashlib.sha256(), bytearray(_HASHED_AT_ONCE)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()
