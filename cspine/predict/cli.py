"""The command `cspine predict`: classifies files, folders and DICOM series without a server."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from cspine.core.labels import MEDICAL_NOTICE, POSITIVE_CLASS
from cspine.core.progress import progress
from cspine.core.serve_settings import PRECISIONS, read_setting
from cspine.core.text import count_noun, escape_name
from cspine.imaging.image_files import describe_left_out
from cspine.predict.batch import ResumableCsv, Row, answer_files, find_images
from cspine.predict.reasons import CODES, MODELS
from cspine.predict.studies import describe_study, score_studies


def register(subparsers: Any) -> None:
    """Add the command `predict`."""
    parser = subparsers.add_parser("predict")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--models", type=Path, default=Path("models"), metavar="DIR")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write the answers to this CSV file; if it exists, continue it",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per line to stdout"
    )
    parser.set_defaults(run=run_predict)


def run_predict(given: argparse.Namespace) -> int:
    """Classify every file; return 1 if any of them failed, else 0."""
    # Imported here, since importing the engine takes a second.
    from cspine.predict.predictor import Predictor

    paths, left_out = find_images(given.paths)
    answer_synthetic = read_setting(given.environment, "answer_synthetic")
    predictor = Predictor.load(given.models, given.precision, answer_synthetic=answer_synthetic)
    opened = predictor.is_opened
    model = MODELS[predictor.domain] + (", CSPINE_ANSWER_SYNTHETIC is on" if opened else "")
    table = ResumableCsv(given.csv, predictor.version, opened) if given.csv else None
    done = {row["path"] for row in table.rows} if table else set()
    rest = [path for path in paths if escape_name(path) not in done]
    rows = list(table.rows) if table else []
    for note in (*predictor.notes, *([describe_left_out(left_out)] if left_out else [])):
        sys.stderr.write(f"{note}\n")
    try:
        for row in progress(answer_files(predictor, rest), "predict", len(rest)):
            rows.append(row)
            if table:
                table.add(row)
            if given.json or not table:
                _write(json.dumps(row) if given.json else _line(row, model))
    except KeyboardInterrupt:
        advice = f" Run the command again to continue {given.csv}." if table else ""
        sys.stderr.write(f"Stopped: {len(rows) - len(done)} of {len(rest)} answered.{advice}\n")
        raise
    for score in score_studies(predictor.policy.series, rows):
        line = f"{describe_study(score)} By {model}."
        _write(json.dumps(vars(score)) if given.json else line)
    failed = sum(bool(row["error"]) for row in rows)
    # Written to stderr, because stdout is for answers and may be a pipe.
    for line in _tally(rows):
        sys.stderr.write(f"{line}\n")
    summary = f"{len(rest) - failed} answered{f', {failed} failed' if failed else ''}"
    sys.stderr.write(f"{summary}, {len(done)} answered before. {MEDICAL_NOTICE}\n")
    return int(failed > 0)


def _tally(rows: list[Row]) -> list[str]:
    """Return lines that count the files by answer, and the uncertain ones by reason."""
    words = Counter(row["prediction"] or "failed" for row in rows)
    reasons = Counter(row["reason"] for row in rows if row["reason"])
    return [
        *(f"{count_noun(count, 'file')}: {word}" for word, count in words.most_common()),
        *(f"  uncertain, {CODES.get(code, code)}: {n}" for code, n in reasons.most_common()),
    ]


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")


def _line(row: Row, model: str) -> str:
    """Return the line of one file: its answer, the reason and the kind of model."""
    if row["error"]:
        return f"{row['path']}: failed. {row['error']}"
    side = "at or above" if row["prediction"] == POSITIVE_CLASS else "below"
    why = row["why"] or f"{side} the threshold {float(row['threshold']):.3f}"
    answer = f"{row['path']}: {row['prediction']} {row['probability'] or '-'}"
    return f"{answer} ({why.removesuffix('.')}; {model})"
