"""Write files and folders completely or not at all: under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a hidden path beside `path`, with the same suffix; at the end rename it to `path`.

    Readers see either the old file or the new one. After an error in the block, `path` is as it was
    and no other file is left. A missing folder is created. Without `durable` the write is faster,
    but it may be lost in a power cut.

    Raises:
        OSError: the file could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        if durable:
            # Synced before the rename, or a power cut could leave the new name without its content.
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        # After an error, the partial file would waste disk space.
        part.unlink(missing_ok=True)


@contextmanager
def written_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Yield a new hidden folder beside `path`; at the end rename it to `path`.

    After an error in the block, `path` is as it was and no other folder is left. With `replace` an
    existing folder is removed with all its files; if two processes write `path`, the later folder
    stays. Without `replace` only an empty folder is replaced.

    Raises:
        OSError: the folder could not be written, or `path` holds files and `replace` is False.
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
        # After an error, the partial folder would waste disk space.
        shutil.rmtree(part, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Move the folder `source` to `target`; then delete the folder that was there before.

    Raises:
        OSError: `source` could not be moved; the old folder is then restored.
    """
    # A rename onto a folder that holds files fails, so the old one is renamed first.
    old = target.with_name(f".{target.name}.old-{os.getpid()}-{threading.get_ident()}")
    with suppress(FileNotFoundError):
        target.rename(old)
    try:
        source.rename(target)
    except BaseException:  # also on Ctrl-C: the old folder is the only one
        # If another process has put its own folder there meanwhile, that folder stays.
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
