"""SHA-256 of model files, with a limit on their size."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cspine.core.errors import ArtifactError

# Our largest network has under 100 MB of weights, but a sparse file may claim to have a TiB.
MAX_FILE_BYTES = 512 * 2**20
# Large pieces, because after each one the thread waits for Python's lock while imports hold it.
_HASHED_AT_ONCE = 8 * 1024 * 1024


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a model's file, in hex.

    Raises:
        ArtifactError: the file is larger than the limit; it is not read.
        OSError: the file cannot be read.
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
