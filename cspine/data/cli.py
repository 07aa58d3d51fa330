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
        description="Find out which files are one slice, what leaks between the published sides, "
        "which slices are in both classes, and what a model could learn without a fracture.",
    )
    parser.add_argument("source", nargs="?", help="a folder, ZIP or CSV in any known layout")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML page")
    parser.add_argument("--names", metavar="FILE", help="answer from a list of names, one a line")
    parser.add_argument("--ignore-names", action="store_true", help="group by pixels alone")
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
        raise ConfigError("`audit` needs a folder, ZIP or CSV, or else --names FILE")
    # The targets are checked before the audit, which may take minutes.
    for target in (args.json, args.html):
        if target and not Path(target).parent.is_dir():
            raise ConfigError(f"`{target}` must be in a folder that exists. Received: none such")
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
        raise ConfigError(f"`names` must hold a name a line. Received: none in {path}")
    return names


def _write(path: Path, text: str) -> None:
    """Write a report completely or not at all."""
    try:
        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"`{path}` must be writable. Received: {error.strerror}") from error
