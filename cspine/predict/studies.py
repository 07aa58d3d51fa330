"""One verdict for each DICOM series, from its slices' answers, or the reason for naming no class.

Slices without a vertebra, such as those above and below the neck, and slices that the header
refuses are set aside. A class is named only if at least MIN_SLICES distinct slices are in
distribution, and at least half of the slices that are not set aside. The reason is that a few
slices of a chest that look like a neck do not make a study of a neck.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cspine.core.labels import CLASS_NAMES, FRACTURE, NORMAL, UNCERTAIN
from cspine.core.text import count_noun
from cspine.decide.study_score import SeriesScore
from cspine.predict.reasons import CODES, SYNTHETIC_MODEL

MIN_SLICES = 5
Row = Mapping[str, str]


@dataclass(frozen=True)
class StudyScore:
    """The verdict for one DICOM series.

    Fields:
        series: a pseudonym of the series UID.
        slices: the number of distinct slices; copies of one SOP instance count as one slice.
        used: the number of slices that are scored.
        probability: P(fracture) of the series, 0–1; None if no class is named.
        prediction: `fracture`, `normal` or `uncertain`.
        reason: why no class is named, in a sentence; "" if a class is named.
        left_out: code of `reasons.CODES` → the paths of the slices not scored for that reason.
    """

    series: str
    slices: int
    used: int
    probability: float | None
    prediction: str
    reason: str = ""
    left_out: dict[str, list[str]] = field(default_factory=dict)


def score_studies(rule: SeriesScore | None, rows: Iterable[Row]) -> list[StudyScore]:
    """Return the verdict for each series with several distinct slices.

    Args:
        rule: the model's series score; if None, there are no verdicts.
        rows: answers of `batch.answer_files`.
    """
    if rule is None:
        return []
    series = _gather_series(rows)
    return [_score_series(name, found, rule) for name, found in series.items() if len(found) > 1]


def _gather_series(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return a dict: series → the answers of its distinct slices, in order."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["series"]:
            # A file without a SOPInstanceUID counts as a slice of its own.
            found.setdefault(row["series"], {}).setdefault(row["slice"] or row["path"], row)
    return {series: [*slices.values()] for series, slices in found.items()}


def _score_series(series: str, rows: Sequence[Row], rule: SeriesScore) -> StudyScore:
    known = [row for row in rows if row["in_distribution"] == "true"]
    left_out: dict[str, list[str]] = {}
    for row in rows:
        if row["in_distribution"] != "true":
            left_out.setdefault(row["reason"], []).append(row["path"])
    counted = len(rows) - sum(map(_is_set_aside, rows))
    reason = _find_reason(len(known), counted, rule)
    probability = None
    if not reason:
        probability = rule.apply(np.array([float(row["probability"]) for row in known]))
    word = UNCERTAIN
    if probability is not None:
        # The score never gives "uncertain": conformal sets were fitted on slices, not on studies.
        word = CLASS_NAMES[FRACTURE if probability >= rule.threshold else NORMAL]
    return StudyScore(
        series=series,
        slices=len(rows),
        used=len(known),
        probability=probability,
        prediction=word,
        reason=reason,
        left_out=left_out,
    )


def _is_set_aside(row: Row) -> bool:
    """Return whether the slice says nothing on whether the study is one of the neck."""
    if row["reason"] in ("header", "no_vertebra"):
        return True
    # A refused picture without a region has no vertebra, if one was searched for. None is searched
    # for if the model may not answer for the image.
    is_searched = SYNTHETIC_MODEL.sentence not in row["warnings"]
    return row["reason"] == "picture" and is_searched and not row["region"]


def _find_reason(known: int, counted: int, rule: SeriesScore) -> str:
    """Return a sentence that says why the series gets no class, or "" if it gets one."""
    if known < MIN_SLICES:
        return (
            f"{count_noun(known, 'slice')} in distribution, but at least {MIN_SLICES} are needed."
        )
    if 2 * known < counted:
        return (
            f"{count_noun(known, 'slice')} in distribution of the {counted} that show a vertebra, "
            "but at least half are needed."
        )
    if not rule.covers(known):
        return (
            f"{count_noun(known, 'slice')} in distribution, more than the {rule.normal.slices} "
            "normal ones on which the model's series score was fitted; train on more patients."
        )
    return ""


def describe_study(score: StudyScore, shown: int = 5) -> str:
    """Return the verdict as one line, with at most `shown` paths per reason."""
    if score.probability is None:
        verdict = f"no class: {score.reason}"
    else:
        verdict = (
            f"{score.prediction} {score.probability:.3f}, from {score.used} of "
            f"{count_noun(score.slices, 'slice')}."
        )
    parts = [f"series {score.series}: {verdict}"]
    for code, paths in score.left_out.items():
        more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
        parts.append(
            f"Left out, {CODES.get(code, code)}: {len(paths)} ({', '.join(paths[:shown])}{more})."
        )
    return " ".join(parts)
