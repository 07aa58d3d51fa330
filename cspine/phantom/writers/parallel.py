"""Helpers to run a function per patient on all cores, and to write a folder all or nothing."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from cspine.core.atomic_write import written_folder
from cspine.core.errors import DataError
from cspine.core.process import count_cores
from cspine.core.progress import progress

Row = TypeVar("Row")
_FEW = 6  # up to this many patients, starting processes would take longer than rendering


def run_per_patient(work: Callable[[int], list[Row]], patients: int) -> list[Row]:
    """Return what `work` returns for patients 0, 1, …, joined in that order."""
    workers = min(count_cores(), patients)
    if patients <= _FEW or workers == 1:
        return [row for number in progress(range(patients), "phantoms") for row in work(number)]
    # Processes are spawned, because a forked child of a process with threads may hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        # `imap` keeps the order, so the rows are the same as from a single process.
        parts = pool.imap(work, range(patients), chunksize=2)
        return [row for part in progress(parts, "phantoms", patients) for row in part]


@contextmanager
def written_beside(out: Path) -> Iterator[Path]:
    """Yield a new folder beside `out` that becomes `out` on success and is removed on failure.

    Raises:
        DataError: `out` is a file, or a folder that is not empty.
    """
    # Resolved, because the folder beside `out` gets a name made from that of `out`, and a path like
    # `.` has none.
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"`out` must be absent or an empty folder. Received: {out}")
    with written_folder(out) as beside:
        yield beside
