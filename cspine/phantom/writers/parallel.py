"""Runs one function for each patient on all cores, and writes folders whole or not at all."""

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
_FEW = 6  # patients; starting processes would take longer


def run_per_patient(work: Callable[[int], list[Row]], patients: int) -> list[Row]:
    """Return what `work` returns for patients 0, 1, …, joined in that order."""
    workers = min(count_cores(), patients)
    if patients <= _FEW or workers == 1:
        return [row for number in progress(range(patients), "phantoms") for row in work(number)]
    # Spawned, since a forked child of a process that has threads may hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        # In order: rows come as one process would give them, however the patients were dealt.
        parts = pool.imap(work, range(patients), chunksize=2)
        return [row for part in progress(parts, "phantoms", patients) for row in part]


@contextmanager
def written_beside(out: Path) -> Iterator[Path]:
    """Give a new folder beside `out` that becomes `out` on success and is removed on failure.

    Raises:
        DataError: `out` is a file, or a folder that is not empty.
    """
    # Of `.` there is no name to write beside.
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"`out` must be absent or an empty folder. Received: {out}")
    with written_folder(out) as beside:
        yield beside
