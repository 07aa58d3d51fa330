"""A file that is there whole or not at all: written beside its place, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a hidden path beside `path`, with its ending, that becomes `path` when the block ends.

    Readers see the old file or the new one. An error in the block leaves `path` as it was, and
    nothing beside it. The folder is made where it is missing. A file that is not `durable` may be
    lost where power is cut, and is there sooner.

    Raises:
        OSError: it could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        if durable:
            # Before the rename, or a power cut could leave the new name with old or no content.
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        # On a full disk, half a file must not stay.
        part.unlink(missing_ok=True)
