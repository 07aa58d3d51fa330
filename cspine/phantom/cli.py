"""Command `python -m cspine phantom DIR`, which writes a phantom set or a contact sheet."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from cspine.core.errors import ConfigError
from cspine.phantom.config import PhantomConfig
from cspine.phantom.writers.contact_sheet import write_sheet
from cspine.phantom.writers.dicom_layouts import write_dicom, write_rsna
from cspine.phantom.writers.grouped import write_grouped
from cspine.phantom.writers.kaggle_layout import write_kaggle

_WRITERS = {
    "grouped": write_grouped,
    "kaggle": write_kaggle,
    "dicom": write_dicom,
    "rsna": write_rsna,
}
# Number of patients and of slices per patient, by layout, if the user gives none.
_SIZES = {"grouped": (150, 8), "kaggle": (4, 48), "dicom": (2, 48), "rsna": (12, 24)}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `phantom`."""
    parser = subparsers.add_parser("phantom")
    parser.add_argument("folder", type=Path, nargs="?", help="folder to write; absent or empty")
    parser.add_argument("--layout", choices=_WRITERS, help="layout of the set (default: grouped)")
    parser.add_argument(
        "--patients",
        type=int,
        help="number of patients; by default 150 (grouped), 4 (kaggle), 2 (dicom) or 12 (rsna)",
    )
    parser.add_argument(
        "--slices",
        type=int,
        help="slices of each patient; by default 8 (grouped), 48 (kaggle and dicom) or 24 (rsna)",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--confound",
        choices=["height"],
        help="place fractures only in the upper neck, as in the published set",
    )
    parser.add_argument(
        "--variants",
        action="store_true",
        help="also write rotated and sharpened copies (kaggle layout only)",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        help="instead of a set, write a contact sheet of 4 × 6 slices to this PNG file",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the set, print its folder, and return the exit code."""
    config = PhantomConfig(seed=args.seed, confound=args.confound, variants=args.variants)
    if args.sheet:
        _refuse_options_of_sets(args)
        print(f"Sheet: {write_sheet(args.sheet, config)}")  # noqa: T201 - a command's answer
        return 0
    layout = args.layout or "grouped"
    if args.variants and layout != "kaggle":
        raise ConfigError(f"`--variants` needs `--layout kaggle`. Received: {layout}")
    if args.folder is None:
        raise ConfigError("`folder` or `--sheet FILE` must be given. Received: neither")
    patients, slices = _SIZES[layout]
    config = dataclasses.replace(
        config,
        patients=patients if args.patients is None else args.patients,
        slices_per_patient=slices if args.slices is None else args.slices,
    )
    print(f"Phantom set: {_WRITERS[layout](args.folder, config)}")  # noqa: T201
    return 0


def _refuse_options_of_sets(args: argparse.Namespace) -> None:
    """Raise `ConfigError` for options that only a set has; a sheet takes only the seed."""
    if args.confound:
        raise ConfigError(
            "`--sheet` shows both classes at every level and must be used without `--confound`. "
            "Received: --confound height"
        )
    given = {
        "DIR": args.folder,
        "--layout": args.layout,
        "--patients": args.patients,
        "--slices": args.slices,
        "--variants": args.variants or None,
    }
    if extra := [name for name, value in given.items() if value is not None]:
        raise ConfigError(
            f"`--sheet` writes no set and must be used without {', '.join(given)}. "
            f"Received: {', '.join(extra)}"
        )
