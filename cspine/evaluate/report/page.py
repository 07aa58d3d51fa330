"""The report: one self-contained HTML page, with the inputs from which it can be rebuilt.

The figures come from the model card, the curves from the scores of the splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup  # only for SVG from plots.py, in which text is escaped

from cspine.core.atomic_write import written_whole
from cspine.core.labels import CLASS_NAMES, MEDICAL_NOTICE
from cspine.core.text import count_noun, count_slices
from cspine.decide.policy import read_series
from cspine.evaluate import curves
from cspine.evaluate.metrics import compute_metrics, patient_scores
from cspine.evaluate.report import plots, tables
from cspine.evaluate.report.audit_table import audit_table
from cspine.evaluate.report.card_text import (
    card_facts,
    describe_basis,
    get,
    headline_split,
    limits,
    site_of,
)
from cspine.evaluate.report.claim_checklist import answer_claim
from cspine.evaluate.report.inputs import (
    INPUTS_FILE,
    Mistake,
    ReportInputs,
    SplitScores,
    save_inputs,
)
from cspine.evaluate.report.pictures import overlay_uri, slice_uri
from cspine.evaluate.report.tables import as_interval
from cspine.evaluate.report.widths import describe_widths

PAGE = "index.html"
TEMPLATES = Path(__file__).parent / "templates"
# Readers look at no more mistakes than this.
MAX_MISTAKES = 10
HEADLINE = ("auroc", "recall", "specificity", "ece")
Plot = tuple[str, str, Markup]  # (title, description for a screen reader, SVG)


def write_report(out_dir: Path, inputs: ReportInputs) -> Path:
    """Write `index.html` and `inputs.json` into `out_dir` and return the page's path.

    Each file is written completely or not at all. The folder is created if it is missing.
    """
    save_inputs(out_dir / INPUTS_FILE, inputs)
    with written_whole(out_dir / PAGE) as part:
        part.write_text(render_report(inputs), encoding="utf-8")
    return out_dir / PAGE


def render_report(inputs: ReportInputs) -> str:
    """Return the page as HTML; every name, note and error in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        # A misspelt name in the template fails instead of leaving a gap in the report.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(_context(inputs))


def _context(inputs: ReportInputs) -> dict[str, Any]:
    card = inputs.card
    metrics: Mapping[str, Any] = get(card, "metrics", {})
    splits_by_name = {split.name: split for split in inputs.splits}
    split = splits_by_name.get(headline_split(splits_by_name) or "")
    splits, rows = tables.metric_table(_with_patients(card))
    sides = get(card, "data.sides", {})
    return {
        "title": inputs.title,
        "notice": MEDICAL_NOTICE,
        "facts": card_facts(card),
        "headline": _headline(metrics),
        "headline_split": headline_split(metrics),
        "basis": describe_basis(card),
        "site": site_of(card),
        "ece": _calibration_error(metrics),
        "metric_splits": splits,
        "metric_rows": tables.basis_rows(splits, sides, get(card, "details", {})) + rows,
        "published_heads": list(tables.PUBLISHED_COLUMNS.values()),
        "published_rows": _published_rows(inputs),
        "published_interval": tables.PUBLISHED_INTERVAL,
        "figures": [] if split is None else _figures(split, card) + _patient_roc(split, card),
        "widths": None if split is None else describe_widths(split, card, _threshold(card)),
        "answers": None if split is None else _answers(split),
        "histories": [
            (name, Markup(plots.plot_history(series, name)))
            for name, series in inputs.histories.items()
            if series
        ],
        "mistakes": [_mistake(m) for m in inputs.mistakes[:MAX_MISTAKES]],
        "leaderboard": tables.plain_table(inputs.leaderboard),
        "audit": None if inputs.audit is None else audit_table(inputs.audit),
        "controls": _controls(get(card, "controls", {})),
        "precision": _precision(get(card, "precision", {})),
        "proposal": inputs.proposal,
        "limits": limits(card),
        "claim": answer_claim(card),
    }


def _headline(metrics: Mapping[str, Any]) -> list[tuple[str, tables.Figure]]:
    name = headline_split(metrics)
    chosen = metrics.get(name, {}) if name else {}
    return [(tables.METRIC_NAMES[m], tables.figure(chosen[m])) for m in HEADLINE if m in chosen]


def _calibration_error(metrics: Mapping[str, Any]) -> tables.Figure | None:
    """Return the ECE of the main split, None if there is none."""
    shown = tables.figure(metrics.get(headline_split(metrics) or "", {}).get("ece"))
    return None if shown.value == tables.NONE else shown


def _published_rows(inputs: ReportInputs) -> list[tables.Row]:
    shipped = str(get(inputs.card, "architecture", ""))
    candidates = inputs.candidates or {shipped: get(inputs.card, "metrics", {})}
    return tables.published_table(candidates, shipped, get(inputs.card, "data.sides", {}))


def _threshold(card: Mapping[str, Any]) -> float:
    return float(get(card, "decision.threshold.value", 0.5))


def _figures(split: SplitScores, card: Mapping[str, Any]) -> list[Plot]:
    """Return the curves of one split."""
    split = split.scored()
    labels, scores = np.asarray(split.labels), np.asarray(split.probabilities)
    if len(np.unique(labels)) < 2:
        return []
    # The card's figures are used if it has them, since its page must not show others.
    known = get(card, f"metrics.{split.name}") or compute_metrics(
        labels, scores, _threshold(card), split.groups
    )
    auroc, auprc, ece = (as_interval(known.get(m)) for m in ("auroc", "auprc", "ece"))
    cells = curves.confusion(labels, scores >= _threshold(card))
    roc = curves.roc_curve(labels, scores, split.groups)
    precision = curves.precision_recall_curve(labels, scores, split.groups)
    return [
        (
            "ROC",
            f"ROC curve {_of(split)}{_band(roc)}; AUROC {auroc.value:.3f}.",
            Markup(plots.plot_roc(roc, auroc)),
        ),
        (
            "Precision and recall",
            f"Precision against recall{_band(precision)}; AUPRC {auprc.value:.3f}.",
            Markup(plots.plot_precision_recall(precision, auprc, float(labels.mean()))),
        ),
        (
            "Reliability",
            f"Observed share of fractures against predicted probability; ECE {ece.value:.3f}.",
            Markup(plots.plot_reliability(curves.reliability(labels, scores), ece)),
        ),
        (
            "Confusion matrix at the threshold",
            _confusion_words(cells),
            Markup(plots.plot_confusion(cells)),
        ),
    ]


def _of(split: SplitScores) -> str:
    return "of these images" if split.name == "site" else f"of the {split.name} split"


def _band(curve: curves.Curve) -> str:
    # A single patient cannot be resampled, so there is no band.
    return " with its 95 % band" if np.isfinite(curve.low).any() else ""


def _patient_roc(split: SplitScores, card: Mapping[str, Any]) -> list[Plot]:
    """Return the ROC curve of the series score by patient, [] if that score was not fitted."""
    series = read_series(get(card, "decision", {}))
    if series is None:
        return []
    labels, scores = patient_scores(split.labels, split.study_probabilities(), split.groups, series)
    if len(np.unique(labels)) < 2:
        return []
    known = get(card, f"details.{split.name}.patients") or compute_metrics(
        labels, scores, series.threshold
    )
    auroc = as_interval(known.get("auroc"))
    patients = count_noun(len(labels), "patient")
    words = f"ROC curve of {patients} {_of(split)}; AUROC {auroc.value:.3f}."
    svg = plots.plot_roc(curves.roc_curve(labels, scores), auroc, "patient-roc")
    return [("ROC by patient", words, Markup(svg))]


def _confusion_words(cells: np.ndarray) -> str:
    words = (
        f"truth {CLASS_NAMES[truth]} and answer {CLASS_NAMES[answer]}: {count}"
        for (truth, answer), count in np.ndenumerate(cells)
    )
    return f"Slices with {'; '.join(words)}."


def _answers(split: SplitScores) -> dict[str, Any] | None:
    """Return how often each answer was given for each truth, and the share of right answers."""
    if split.predictions is None:
        return None
    predictions, labels = np.asarray(split.predictions), np.asarray(split.labels)
    words = (*CLASS_NAMES, "uncertain")
    rows = []
    for truth, name in enumerate(CLASS_NAMES):
        among = predictions[labels == truth]
        rows.append((name, [int((among == word).sum()) for word in words], len(among)))
    named = predictions != "uncertain"
    right = (predictions == np.asarray(CLASS_NAMES)[labels])[named]
    return {
        "words": words,
        "rows": rows,
        "named": int(named.sum()),
        "total": len(predictions),
        "right": f"{right.mean():.3f}" if len(right) else tables.NONE,
        "without": int((~np.isfinite(np.asarray(split.probabilities, float))).sum()),
    }


def _mistake(mistake: Mistake) -> dict[str, Any]:
    return {
        **vars(mistake),
        "probability": f"{mistake.probability:.3f}",
        "image": slice_uri(mistake.image),
        "overlay": None if mistake.heatmap is None else overlay_uri(mistake.image, mistake.heatmap),
    }


def _controls(controls: Any) -> list[tuple[str, tables.Figure, str]]:
    """Return (name, figure, sample size) of each control, a figure or a mapping with `auroc`."""
    if not isinstance(controls, Mapping):
        return []
    rows = []
    for name, parts in controls.items():
        value = get(parts, "auroc", parts)
        slices, patients = get(parts, "slices"), get(parts, "patients")
        basis = f"on {count_slices(slices, patients)}" if slices and patients else ""
        rows.append((str(name).replace("_", " "), tables.figure(value), basis))
    return rows


def _precision(precision: Any) -> dict[str, Any]:
    """Return the numeric precision that is served, why, and a plain table of those compared."""
    precision = precision if isinstance(precision, Mapping) else {}
    compared = precision.get("compared", {})
    rows = [{"precision": name, **parts} for name, parts in compared.items()]
    return {
        "chosen": precision.get("chosen"),
        "why": precision.get("why", ""),
        "table": tables.plain_table(rows),
    }


def _with_patients(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card's metrics, and those by patient and study of the main split."""
    metrics = dict(get(card, "metrics", {}))
    name = headline_split(metrics)
    patients = get(card, f"details.{name}.patients")
    # Only cards of models from RSNA 2022 data have these figures.
    unboxed = get(card, f"details.{name}.unboxed_studies")
    columns = {tables.BY_PATIENT: patients, tables.WITHOUT_BOXES: unboxed}
    # If no patient or study has a score, there are counts but no figures.
    given = {words: found for words, found in columns.items() if found and "auroc" in found}
    return metrics | {f"{name}{words}": found for words, found in given.items()}
