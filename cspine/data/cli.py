"""Command `python -m cspine audit`, which prints an audit and can write it as JSON or HTML."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ConfigError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `audit` command to the subparsers of `python -m cspine`."""
    parser = subparsers.add_parser(
        "audit",
        description="Report which files show the same slice, which slices are on two sides of the "
        "published split or in both classes, and from which features that show no fracture a "
        "model could predict the class.",
    )
    parser.add_argument("source", nargs="?", help="a folder, ZIP or CSV in any known layout")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML page")
    parser.add_argument(
        "--names", metavar="FILE", help="audit the file names in FILE, one per line, not a data set"
    )
    parser.add_argument(
        "--ignore-names", action="store_true", help="group the files by their pixels only"
    )
    parser.set_defaults(run=run_audit)


def run_audit(args: argparse.Namespace) -> int:
    """Audit the data set or names in `args`, print the findings, write the files; return 0.

    Raises:
        ConfigError: neither or both of a source and --names are given, the list of names cannot be
            read, or a file cannot be written.
        DataError: the source is not a data set.
    """
    # Imported here because the audit needs scikit-learn, which the serving environment lacks.
    from cspine.data.audit.audit import audit_dataset, audit_names
    from cspine.data.audit.page import render_page
    from cspine.data.index import scan_dataset

    if (args.source is None) == (args.names is None):
        given = "neither" if args.source is None else "both"
        raise ConfigError(
            f"`audit` needs either a folder, ZIP or CSV file, or --names FILE. Received: {given}"
        )
    # The targets are checked before the audit, which may take minutes.
    for target in (args.json, args.html):
        if target and not Path(target).parent.is_dir():
            raise ConfigError(
                f"`{target}` must be in a folder that exists. Received: no such folder"
            )
        if target and Path(target).is_dir():
            raise ConfigError(f"`{target}` must be a file to write. Received: a folder")
    if args.names is not None:
        report, read = audit_names(_read_names(Path(args.names))), None
    else:
        dataset = scan_dataset(Path(args.source))
        report, read = audit_dataset(dataset, args.ignore_names), dataset.read_bytes
    for line in [*report.lines(), *report.details()]:
        sys.stdout.write(line + "\n")
    if args.json:
        _write(Path(args.json), report.to_json())
    if args.html:
        _write(Path(args.html), render_page(report, read))
    return 0


def _read_names(path: Path) -> list[str]:
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`names` must be a readable text file. Received: {path}") from error
    if not any(map(str.strip, names)):
        raise ConfigError(f"`names` must hold one name per line. Received: none in {path}")
    return names


def _write(path: Path, text: str) -> None:
    """Write a report completely or not at all."""
    try:
        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"`{path}` must be writable. Received: {error.strerror}") from error
