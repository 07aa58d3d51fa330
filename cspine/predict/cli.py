"""`python -m cspine predict PATH…`: files, folders and DICOM series, without a server."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cspine.core.labels import MEDICAL_NOTICE
from cspine.core.progress import progress
from cspine.core.settings import PRECISIONS
from cspine.predict.batch import (
    ResumableCsv,
    Row,
    StudyScore,
    answer_files,
    find_images,
    score_studies,
)


def register(subparsers: Any) -> None:
    """Add the command `predict`."""
    parser = subparsers.add_parser(
        "predict", help="answer files and folders of slices, and whole DICOM series"
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--models", type=Path, default=Path("models"), metavar="DIR")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write rows here; an interrupted run goes on"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
    parser.set_defaults(run=run_predict)


def run_predict(given: argparse.Namespace) -> int:
    """Answer every file; 1 where any of them could not be answered, else 0."""
    # The engine takes a second to import.
    from cspine.predict.predictor import Predictor

    paths = find_images(given.paths)
    predictor = Predictor.load(given.models, given.precision)
    table = ResumableCsv(given.csv, predictor.version) if given.csv else None
    done = {row["path"] for row in table.rows} if table else set()
    rest = [path for path in paths if str(path) not in done]
    rows = list(table.rows) if table else []
    try:
        for row in progress(answer_files(predictor, rest), "predict", len(rest)):
            rows.append(row)
            if table:
                table.add(row)
            if given.json or not table:
                _write(json.dumps(row) if given.json else _line(row))
    except KeyboardInterrupt:
        told = f" Run it again to go on in {given.csv}." if table else ""
        sys.stderr.write(f"Stopped: {len(rows) - len(done)} of {len(rest)} answered.{told}\n")
        raise
    for score in score_studies(predictor, rows):
        _write(json.dumps(vars(score)) if given.json else _study_line(score))
    # On stderr: stdout is for answers, and may be a pipe.
    sys.stderr.write(f"{len(rest)} answered, {len(done)} already there. {MEDICAL_NOTICE}\n")
    return int(any(row["error"] for row in rows))


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")


def _line(row: Row) -> str:
    if row["error"]:
        return f"{row['path']}: {row['error']}"
    return f"{row['path']}: {row['prediction']} {row['probability'] or '-'}"


def _study_line(score: StudyScore) -> str:
    return (
        f"series {score.series}: {score.prediction} {score.probability:.3f}, "
        f"from {score.slices} slices"
    )
