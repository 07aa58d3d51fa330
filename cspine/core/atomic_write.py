"""Write files and folders whole or not at all: under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a hidden path beside `path`, with its ending, that becomes `path` when the block ends.

    Readers see the old file or the new one. An error in the block leaves `path` as it was, and no
    other file. A missing folder is made. Without `durable` the write is faster, and may be lost in
    a power cut.

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
        # Half a file would take space on a full disk.
        part.unlink(missing_ok=True)


@contextmanager
def written_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Give a new hidden folder beside `path` that becomes `path` when the block ends.

    An error in the block leaves `path` as it was, and no other folder. With `replace` an existing
    folder is removed with all its files, and of two processes the later one's folder stays. Without
    `replace` only an empty folder is replaced.

    Raises:
        OSError: it could not be written, or without `replace` there are files in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part-{os.getpid()}-{threading.get_ident()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        if replace:
            replace_folder(part, path)
            return
        # A rename onto a folder fails on Windows, even onto an empty one.
        if path.exists():
            path.rmdir()
        part.replace(path)
    finally:
        # Half a folder would take space on a full disk.
        shutil.rmtree(part, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Move the folder `source` to `target`; a folder that is there goes once the new one is.

    Raises:
        OSError: it could not be moved; the old folder is then back in its place.
    """
    # A rename onto a folder that holds files fails, so the old one is renamed first.
    old = target.with_name(f".{target.name}.old-{os.getpid()}-{threading.get_ident()}")
    with suppress(FileNotFoundError):
        target.rename(old)
    try:
        source.rename(target)
    except OSError:
        # Another process may have put its own folder there, which stays.
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
