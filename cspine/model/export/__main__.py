"""`python -m cspine.model.export H5 [OUT]`, or a model folder for its `best.h5`: write the IR.

An entry point: it chooses Keras's OpenVINO backend before Keras is imported, and exits 0 or 2. In a
model folder it says whether the IR is the one that the card lists: another is never served.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from pathlib import Path

from cspine.core.errors import CspineError


def _leave_out_what_is_not_needed() -> None:
    """Halve the time that importing Keras takes, since a service waits for this process to end.

    If these packages are installed, Keras imports them for data frames, plots, checkpoints and
    notebooks.
    """
    for name in ("matplotlib", "pandas", "sklearn", "jax", "IPython"):
        sys.modules[name] = None  # type: ignore[assignment]
    # An empty module, since the OpenVINO backend always imports this one.
    sys.modules["scipy.signal"] = types.ModuleType("scipy.signal")


def _is_listed(made: Path) -> bool:
    """Return whether the card of the IR's folder lists this IR."""
    from cspine.model.store.hashes import hash_file
    from cspine.model.store.registry import resolve_version

    files = resolve_version(made.parent)
    both = (made, made.with_suffix(".bin"))
    return all(files.listed_hash(one.name) == hash_file(one) for one in both)


def main() -> int:
    """Convert the file that the command line names; if that fails, write one line to stderr."""
    parser = argparse.ArgumentParser(prog="python -m cspine.model.export", description=__doc__)
    parser.add_argument("h5", type=Path, help="the .h5 file, or a folder that holds best.h5")
    parser.add_argument(
        "out", type=Path, nargs="?", help="folder for the IR; by default, that of the .h5"
    )
    given = parser.parse_args()
    h5 = given.h5 / "best.h5" if given.h5.is_dir() else given.h5
    # The parent's backend does not matter: only this backend exports without TensorFlow.
    os.environ["KERAS_BACKEND"] = "openvino"
    _leave_out_what_is_not_needed()
    from cspine.model.export.convert import convert_h5

    try:
        made = convert_h5(h5, given.out or h5.parent)
        if given.h5.is_dir() and given.out is None and not _is_listed(made):
            sys.stderr.write(
                f"The card does not list this {made.name}, so each start converts the .h5 again, "
                "in a temporary folder that must be writable.\n"
            )
    except CspineError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
