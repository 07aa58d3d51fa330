"""The report's tables as rows of text: figures with intervals, and the published ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cspine.core.text import count_noun
from cspine.stats.intervals import Interval

NONE = "–"
# The figures of the published notebook. Its positive class was *normal*, so its precision and
# recall are those of normal, and its threshold was 0.5. For train and validation it gave only the
# accuracy.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "train": {"accuracy_at_half": 1.0000},
    "validation": {"accuracy_at_half": 0.9122},
    "test": {"loss": 0.3144, "accuracy_at_half": 0.8605, "npv": 0.9048, "specificity": 0.7950},
}
# The published test folder holds 400 files, twenty copies of each of these slices.
PUBLISHED_TEST_SLICES = 20
# Wilson's interval of the published accuracy if these slices were independent. It is a constant,
# because 0.8605 of 20 is not a whole number of slices, which SciPy's test requires.
PUBLISHED_INTERVAL = "0.65–0.95"
# Our key → heading; npv and specificity are the precision and recall of normal.
PUBLISHED_COLUMNS = {
    "loss": "Loss",
    "accuracy_at_half": "Accuracy at 0.5",
    "accuracy": "Accuracy at the threshold",
    "precision": "Precision, fracture",
    "recall": "Recall, fracture",
    "npv": "Precision, normal",
    "specificity": "Recall, normal",
}
METRIC_NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "recall": "Sensitivity (recall)",
    "specificity": "Specificity",
    "precision": "Precision",
    "npv": "Precision of normal",
    "accuracy": "Accuracy",
    "accuracy_at_half": "Accuracy at 0.5",
    "loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
    "sensitivity_at_95_specificity": "Sensitivity at 95 % specificity",
    "specificity_at_95_sensitivity": "Specificity at 95 % sensitivity",
}
# Appended to a column's heading if its figures count patients or studies instead of slices.
BY_PATIENT = ", by patient"
WITHOUT_BOXES = ", fractured studies without boxes"
SPLIT_ORDER = ("train", "validation", "out-of-fold", "test")


@dataclass(frozen=True)
class Figure:
    """A figure as text: `value`, and its `interval` or ""."""

    value: str
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.value} ({self.interval})" if self.interval else self.value


PUBLISHED_BASIS = {
    "train": Figure(NONE),
    "validation": Figure(NONE),
    "test": Figure(f"{PUBLISHED_TEST_SLICES} slices", "1 patient"),
}


@dataclass(frozen=True)
class Row:
    """One row of a table: its headings, left to right, and its figures."""

    heads: tuple[str, ...]
    figures: tuple[Figure, ...]
    emphasised: bool = False


def as_interval(parts: Any) -> Interval:
    """Return an Interval of {value, low, high}, a bare number, an Interval or nothing."""
    if isinstance(parts, Interval):
        return parts
    if isinstance(parts, Mapping):
        return Interval.from_dict(dict(parts))
    value = float(parts) if isinstance(parts, int | float) else math.nan
    return Interval(value, math.nan, math.nan)


def figure(parts: Any, digits: int = 3) -> Figure:
    """Return {value, low, high}, an Interval or a number as text."""
    interval = as_interval(parts)
    # Shown as a dash, not as "nan", because a figure that does not exist is not an error.
    if not math.isfinite(interval.value):
        return Figure(NONE)
    value = f"{interval.value:.{digits}f}"
    if not math.isfinite(interval.low):
        return Figure(value)
    return Figure(value, f"{interval.low:.{digits}f}–{interval.high:.{digits}f}")


def published_table(
    candidates: Mapping[str, Mapping[str, Mapping[str, Any]]],
    shipped: str,
    sides: Mapping[str, Mapping[str, Any]],
) -> list[Row]:
    """Return the published table with ours: the rows of every candidate, then those published.

    The columns are the sample size, from the card's `sides`, and PUBLISHED_COLUMNS. The candidate
    named `shipped` is emphasised.
    """
    rows = [
        Row((name, split), (_basis(sides.get(split)), *_columns(splits[split])), name == shipped)
        for name, splits in candidates.items()
        for split in ordered(splits)
    ]
    return rows + [
        Row(("published", split), (PUBLISHED_BASIS[split], *_columns(figures, 4)))
        for split, figures in PUBLISHED.items()
    ]


def metric_table(metrics: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[Row]]:
    """Return (split names, one row per metric) of the card's metrics."""
    splits = ordered(metrics)
    rows = [
        Row((heading,), tuple(figure(metrics[split].get(name)) for split in splits))
        for name, heading in METRIC_NAMES.items()
        if any(name in metrics[split] for split in splits)
    ]
    return splits, rows


def basis_rows(
    splits: Sequence[str],
    sides: Mapping[str, Mapping[str, Any]],
    details: Mapping[str, Mapping[str, Any]],
) -> list[Row]:
    """Return one row with the number of slices and patients behind each split's figures.

    `sides` and `details` are those of the card; a split that they lack gets a dash. If `sides` is
    empty, there is no row.
    """
    if not sides:
        return []
    return [Row(("Based on",), tuple(_column_basis(name, sides, details) for name in splits))]


def _column_basis(
    name: str, sides: Mapping[str, Mapping[str, Any]], details: Mapping[str, Mapping[str, Any]]
) -> Figure:
    if name.endswith(WITHOUT_BOXES):
        part = details[name.removesuffix(WITHOUT_BOXES)]["unboxed_studies"]
        return Figure(f"{part['scored']} of {part['studies']} studies")
    split = name.removesuffix(BY_PATIENT)
    side = sides.get(split)
    if side is None or split == name:
        return _basis(side)
    # Patients without a score are in no figure; cards of older versions do not count them apart.
    scored = details.get(split, {}).get("patients_scored", side["patients"])
    return Figure(count_noun(scored, "patient"))


def _basis(side: Mapping[str, Any] | None) -> Figure:
    if side is None:
        return Figure(NONE)
    # Older cards count only files, which are as many as the slices if no copies are kept.
    files, slices = side["slices"], side.get("distinct_slices", side["slices"])
    copies = f", {count_noun(files, 'file')}" if files != slices else ""
    patients = count_noun(side["patients"], "patient")
    return Figure(count_noun(slices, "slice"), patients + copies)


def plain_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return (headings, cells) of rows with any keys, as in a CSV file."""
    # All keys of all rows, in the order of their first appearance.
    keys = list(dict.fromkeys(str(key) for row in rows for key in row))
    return [key.replace("_", " ") for key in keys], [
        [_cell(row.get(k)) for k in keys] for row in rows
    ]


def ordered(splits: Mapping[str, Any]) -> list[str]:
    """Return the split names in the order of SPLIT_ORDER, then all others."""
    # This is the order of their use in a run, so that the last column matters most.
    first = [name for name in SPLIT_ORDER if name in splits]
    return first + [name for name in splits if name not in first]


def _columns(figures: Mapping[str, Any], digits: int = 3) -> tuple[Figure, ...]:
    return tuple(figure(figures.get(name), digits) for name in PUBLISHED_COLUMNS)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return NONE
    if isinstance(value, Mapping):
        return str(figure(value, 4))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
