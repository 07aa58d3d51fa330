"""The commands `python -m cspine evaluate` and `python -m cspine report`.

This module imports no network: the entry point passes the function that loads a model. Drawing and
computing modules are imported when a command runs, so that a machine without them, which only
serves, can still list the commands.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ArtifactError, ConfigError
from cspine.core.serve_settings import PRECISIONS, read_setting
from cspine.core.text import count_noun, count_slices

if TYPE_CHECKING:
    from cspine.evaluate.external_validation import Predict, SiteResult

log = logging.getLogger(__name__)
PredictFactory = Callable[[Path, str], "Predict"]  # (models folder, numeric precision)
CARD = "best.json"


def register(subparsers: Any, predict_factory: PredictFactory) -> None:
    """Add the commands `evaluate` and `report`.

    `predict_factory` loads the model of a folder at a precision and returns `predict`.
    """
    parser = subparsers.add_parser("evaluate")
    parser.add_argument("data", type=Path, help="a folder, a ZIP, or a CSV file with `path,label`")
    parser.add_argument("--models", type=Path, default=Path("models"), help="the model's folder")
    parser.add_argument(
        "--out", type=Path, default=Path("evaluation"), help="folder for the report and answers"
    )
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), help="use only this folder"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="numeric precision; default: CSPINE_PRECISION or auto",
    )
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap samples")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out unreadable files")
    parser.set_defaults(run=lambda given: run_evaluate(given, predict_factory))

    parser = subparsers.add_parser("report")
    parser.add_argument("--models", type=Path, default=Path("models"), help="the model's folder")
    parser.set_defaults(run=run_report)


def run_evaluate(given: argparse.Namespace, predict_factory: PredictFactory) -> int:
    """Evaluate, write `report/`, `evaluation.json` and `answers.csv`, and log the result."""
    from cspine.data.audit.audit import audit_first
    from cspine.data.index import index_dataset
    from cspine.evaluate.external_validation import evaluate_site, write_answers
    from cspine.evaluate.report.page import write_report
    from cspine.evaluate.training_fingerprints import read_seen

    check_arguments(given)
    card = read_card(given.models)
    # The model is loaded before the audit, which takes minutes, because loading may fail.
    predict = predict_factory(given.models, find_precision(given))
    # As in training, the audit joins copies that are recognised only by their pixels, so that a
    # copy does not count as another slice or another patient.
    # Blank images are kept: the service gets such images too, and what it says of them counts.
    dataset = index_dataset(given.data, given.skip_unreadable, accept_blank=True)
    dataset, audit = audit_first(dataset)
    seen = read_seen(given.models, card)
    result = evaluate_site(dataset, predict, card, given.split, given.resamples, audit, seen)
    try:
        page = write_report(given.out / "report", result.inputs)
        write_answers(given.out / "answers.csv", result)
        with written_whole(given.out / "evaluation.json") as part:
            # A figure that does not exist is null; NaN is not valid JSON and is refused.
            part.write_text(json.dumps(result.summary, indent=1, allow_nan=False), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"`out` must be writable. Received: {given.out} ({error})") from error
    _log_result(result)
    log.info("Report: %s", page)
    return 0


def check_arguments(given: argparse.Namespace) -> None:
    """Refuse settings that would otherwise fail only after hours of scoring.

    Raises:
        ConfigError: names the setting and what was received.
    """
    if given.resamples < 1:
        raise ConfigError(f"`resamples` must be at least 1. Received: {given.resamples}")
    # The nearest existing parent must be a folder, since no folder can be created below a file.
    existing = next(one for one in (given.out, *given.out.parents) if one.exists())
    if not existing.is_dir():
        raise ConfigError(f"`out` must be a folder. Received: {given.out} ({existing} is a file)")


def find_precision(given: argparse.Namespace) -> str:
    """Return the precision of the flag, else that of the environment, as the service reads it.

    Raises:
        ConfigError: the environment names an unknown precision.
    """
    return str(given.precision or read_setting(given.environment, "precision"))


def run_report(given: argparse.Namespace) -> int:
    """Rebuild `report/index.html` from the card and the inputs beside the page."""
    from cspine.evaluate.report.inputs import INPUTS_FILE, load_inputs
    from cspine.evaluate.report.page import write_report

    folder = given.models / "report"
    page = write_report(folder, load_inputs(folder / INPUTS_FILE, read_card(given.models)))
    log.info("%s", page)
    return 0


def read_card(models: Path) -> dict[str, Any]:
    """Return the model card of a folder.

    Raises:
        ArtifactError: the card is missing, unreadable or not a JSON object.
    """
    try:
        card = json.loads((models / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        card = None
    if not isinstance(card, dict):
        raise ArtifactError(f"`{models}` must hold a model card. Received: no readable {CARD}")
    return card


def _log_result(result: SiteResult) -> None:
    from cspine.evaluate.report.card_text import seen_words

    summary = result.summary
    auroc = summary["metrics"]["auroc"]
    copies = summary["copies_left_out"]
    if copies:
        log.info("Left out as copies of other slices: %s.", count_noun(copies, "file"))
    log.info(
        "%s, AUROC %.3f, interval %s to %s; answers: %s",
        count_slices(summary["slices"], summary["patients"]),
        auroc["value"],
        _short(auroc["low"]),
        _short(auroc["high"]),
        ", ".join(f"{count} {word}" for word, count in summary["answers"].items()),
    )
    log.info(
        "Threshold: %.3f. If it were chosen on these images, it would be %.3f.",
        summary["threshold"],
        summary["proposed_threshold"]["value"],
    )
    if text := seen_words(summary):
        log.warning("%s", text)


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
