"""Write files and folders whole or not at all: beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import threading
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


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """Give a new hidden folder beside `path` that becomes `path` when the block ends.

    A folder that is there is replaced. An error in the block leaves it as it was, and nothing
    beside it. Two processes that write the same folder do not meet: the later one's stays.

    Raises:
        OSError: it could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part-{os.getpid()}-{threading.get_ident()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        # A rename onto a folder that holds files fails.
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)
    finally:
        # On a full disk, half a folder must not stay.
        shutil.rmtree(part, ignore_errors=True)
