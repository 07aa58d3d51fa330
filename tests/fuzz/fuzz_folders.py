"""Reads a folder of 10,000 mixed files and prints as JSON whether every file is read or named.

    python -m tests.fuzz.fuzz_folders [--files 10000]

The exit code is 1 if a slice is not read, or if any other file is not named with a reason.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from cspine.data.index import index_dataset, scan_dataset
from cspine.predict.batch import find_images
from tests.support.leftovers import write_mixed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    count = parser.parse_args().files
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        slices, leftovers, broken = write_mixed(root, count)
        report: dict[str, object] = {"files": count, "slices": len(slices)}
        sound = len(slices) + len(leftovers) + len(broken) == count
        readers = {
            "train": lambda: index_dataset(root, skip_unreadable=True),
            "audit": lambda: scan_dataset(root),
            "evaluate": lambda: index_dataset(root, skip_unreadable=True, accept_blank=True),
        }
        for name, read in readers.items():
            found = read()
            counts = (len(found.records), len(found.left_out), len(found.unreadable))
            sound &= counts == (len(slices), len(leftovers), len(broken))
            report[name] = dict(zip(("read", "left_out", "unreadable"), counts, strict=True))
        images, left_out = find_images([root])
        sound &= len(images) + len(left_out) == count
        report["predict"] = {"images": len(images), "left_out": len(left_out)}
    print(json.dumps({**report, "sound": sound}, indent=1))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
