"""Measure the audit: its speed, its findings on real slices, its false matches on phantoms.

    python -m experiments.data.audit [--real DIR] [--phantoms N|DIR] [--speed N] [--out FILE]

The audit groups files that show the same slice (copies) and finds slices on both sides of a split.
`--real` is a folder with `originals/train/{fracture,normal}`, `variants/train/{fracture,normal}`
and `names.txt` of the published set; no image is copied from it. `--phantoms` is either the number
of slices to write, or the folder of an existing grouped phantom set.

Prints JSON with wall-clock and CPU seconds of all processes; on a busy machine only the CPU seconds
show what the audit costs. Memory is the largest sum over all processes (proportional set size, read
every 0.2 s).
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import describe_machine
from benchmarks.output import print_figures
from cspine.data.audit.audit import audit_dataset, audit_names
from cspine.data.index import scan_dataset
from cspine.data.layouts.filenames import parse_published
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.grouped import write_grouped
from cspine.phantom.writers.kaggle_layout import write_kaggle


def read_clock() -> tuple[float, float]:
    """Return wall-clock and CPU seconds, including those of child processes that have ended."""
    cpu = sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return time.perf_counter(), cpu


def seconds_since(start: tuple[float, float]) -> dict[str, Any]:
    """Return the wall-clock and CPU seconds since `start`."""
    wall, cpu = read_clock()
    return {"wall_s": round(wall - start[0], 1), "cpu_s": round(cpu - start[1], 1)}


def measure_real(folder: Path) -> dict[str, Any]:
    """Audit the published set: the names only, then originals with variants by pixels only."""
    names = audit_names((folder / "names.txt").read_text(encoding="utf-8").splitlines())
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("originals", "variants"):
            shutil.copytree(folder / part / "train", Path(scratch) / "train", dirs_exist_ok=True)
        dataset = scan_dataset(Path(scratch) / "train")
        start = read_clock()
        # The names would reveal which files are copies, which the pixels are to show.
        blind = audit_dataset(dataset, ignore_names=True)
        spent = seconds_since(start)
        originals = scan_dataset(folder / "originals/train")
        named = audit_dataset(originals)
    by_number = names.shortcuts["slice number"]
    members: dict[str, set[str]] = defaultdict(set)
    for path, (slice_id, _) in blind.groups.items():
        members[slice_id].add(path)
    right, impure = 0, []
    for paths in members.values():
        # The names, which the audit by pixels did not see, give the true groups.
        parsed = [name for path in paths if (name := parse_published(path))]
        sources = {name.slice_id for name in parsed}
        originals_here = {name.slice_id for name in parsed if not name.variant}
        right += sum(name.slice_id in originals_here for name in parsed if name.variant)
        if len(sources) > 1:
            impure.append(sorted(sources))
    return {
        "names": {
            "slices": names.slices,
            "volumes": names.volumes,
            "straddlers": [leak.slice_id for leak in names.split_leaks],
            "slice_number_auroc": by_number.auroc if by_number else None,
        },
        "pixels": {
            "files": blind.files,
            "slices": blind.slices,
            "volumes": blind.volumes,
            "variants_with_their_source": right,
            "joined_different_names": impure,
            **spent,
        },
        "originals_named": {
            "slices": named.slices,
            "volumes": named.volumes,
            "exact_duplicates": named.exact_duplicates,
            "shortcuts": {k: v.auroc if v else None for k, v in named.shortcuts.items()},
        },
    }


def measure_phantoms(what: str) -> dict[str, Any]:
    """Audit phantom slices, which are all different, by pixels only."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(what)
        if what.isdigit():
            config = PhantomConfig(patients=int(what) // 8, slices_per_patient=8, seed=77)
            root = write_grouped(Path(scratch) / "set", config)
        dataset = scan_dataset(root)
        start = read_clock()
        # No slice is a copy of another, so every match is a mistake.
        report = audit_dataset(dataset, ignore_names=True)
        return {
            "files": report.files,
            "slices": report.slices,
            "joined": [list(group) for group in report.near_duplicates],
            "volumes": report.volumes,
            "patients": len({record.patient_id for record in dataset.records}),
            **seconds_since(start),
        }


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """Yield a list that gets the MiB of this process and its children while the block runs."""
    held_mib, is_over, parent = [0.0], threading.Event(), psutil.Process()

    def watch() -> None:
        while not is_over.wait(0.2):
            held = 0
            for process in (parent, *parent.children(recursive=True)):
                with suppress(psutil.Error):  # the child may have just ended
                    # PSS divides memory that several processes share between them.
                    held += process.memory_full_info().pss
            held_mib.append(held / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield held_mib
    finally:
        is_over.set()
        watcher.join()


def measure_speed(files: int) -> dict[str, Any]:
    """Audit phantoms with copies in the published layout: by names, then by pixels only."""
    found: dict[str, Any] = {}
    groups = []
    with tempfile.TemporaryDirectory() as scratch:
        # Each slice has 21 files: the original and 20 copies.
        config = PhantomConfig(
            patients=max(2, files // (21 * 10)), slices_per_patient=10, seed=5, variants=True
        )
        root = write_kaggle(Path(scratch) / "set", config)
        for what, ignore in (("names", False), ("pixels", True)):
            start = read_clock()
            with watched_memory() as held_mib:
                report = audit_dataset(scan_dataset(root), ignore_names=ignore)
            spent = {**seconds_since(start), "peak_mib": round(max(held_mib))}
            groups.append(report.groups)
            found[what] = {"files": report.files, "slices": report.slices, **spent}
        named, blind = groups
        # If names and pixels agree, there is one pair per slice. If the pixels split a slice, its
        # name has a second pair; if they join two slices, their group has a second pair.
        pairs = {(named[path][0], blind[path][0]) for path in named}
        found["pixels"]["split_slices"] = len(pairs) - len({a for a, _ in pairs})
        found["pixels"]["joined_slices"] = len(pairs) - len({b for _, b in pairs})
    return found


def main() -> None:
    """Run the chosen measurements and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, help="folder of real slices (see above)")
    parser.add_argument("--phantoms", default="2000", help="number of slices, a folder, or 0")
    parser.add_argument("--speed", type=int, default=4200, help="files of the speed test, or 0")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": describe_machine()}
    if args.real:
        found["real"] = measure_real(args.real)
    if args.phantoms != "0":
        found["phantoms"] = measure_phantoms(args.phantoms)
    if args.speed:
        found["speed"] = measure_speed(args.speed)
    print_figures(found, args.out)


if __name__ == "__main__":
    main()
