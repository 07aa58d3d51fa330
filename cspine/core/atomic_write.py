"""Write files and folders whole or not at all: beside their place, then renamed."""

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
def written_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Give a new hidden folder beside `path` that becomes `path` when the block ends.

    An error in the block leaves `path` as it was, and nothing beside it. With `replace` a folder
    that is there, whatever it holds, goes; of two processes that write it the later one's stays.
    Without, only an empty folder does.

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
        # On a full disk, half a folder must not stay.
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
