"""One verdict for each DICOM series among many answered slices, and why there is none.

A class is named only where at least MIN_SLICES distinct slices, and at least half of those that are
not set aside, are in distribution: few slices of a chest that happen to look like a neck are no
study of a neck. Set aside are slices in which no vertebra was found, as above and below the neck,
and those that a header refuses. Knows no files and no images.
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
    """What is said of one DICOM series.

    Fields:
        series: a pseudonym of its UID.
        slices: its distinct slices; copies of one SOP instance are one.
        used: how many of them the score stands on.
        probability: P(fracture) of the whole, 0–1; None where no class is named.
        prediction: `fracture`, `normal` or `uncertain`.
        reason: why no class is named, in a sentence; "" where one is.
        left_out: code of `reasons.CODES` → the paths of the slices that have no say.
    """

    series: str
    slices: int
    used: int
    probability: float | None
    prediction: str
    reason: str = ""
    left_out: dict[str, list[str]] = field(default_factory=dict)


def score_studies(rule: SeriesScore | None, rows: Iterable[Row]) -> list[StudyScore]:
    """Return what the rule says of each series with several distinct slices; none without a rule.

    `rows` are answers as `batch.answer_files` gives them.
    """
    if rule is None:
        return []
    series = _gather_series(rows)
    return [_score_series(name, found, rule) for name, found in series.items() if len(found) > 1]


def _gather_series(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return series → the answers of its distinct slices, in order."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["series"]:
            # A file that does not say which SOP instance it is is one of its own.
            found.setdefault(row["series"], {}).setdefault(row["slice"] or row["path"], row)
    return {series: [*slices.values()] for series, slices in found.items()}


def _score_series(series: str, rows: Sequence[Row], rule: SeriesScore) -> StudyScore:
    known = [row for row in rows if row["in_distribution"] == "true"]
    left_out: dict[str, list[str]] = {}
    for row in rows:
        if row["in_distribution"] != "true":
            left_out.setdefault(row["reason"], []).append(row["path"])
    asked = len(rows) - sum(map(_is_set_aside, rows))
    reason = _find_reason(len(known), asked, rule)
    probability = None
    if not reason:
        probability = rule.apply(np.array([float(row["probability"]) for row in known]))
    word = UNCERTAIN
    if probability is not None:
        # No "uncertain" by the score: conformal sets were fitted on slices, not on studies.
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
    """Return whether the slice says nothing for or against this being a study of the neck."""
    if row["reason"] in ("header", "no_vertebra"):
        return True
    # Where the looks refuse a picture a vertebra is searched all the same, but not by a model that
    # may not speak of the image.
    is_searched = SYNTHETIC_MODEL.sentence not in row["warnings"]
    return row["reason"] == "picture" and is_searched and not row["region"]


def _find_reason(known: int, asked: int, rule: SeriesScore) -> str:
    """Return in a sentence why the series gets no class, "" where it does."""
    if known < MIN_SLICES:
        return (
            f"{count_noun(known, 'slice')} in distribution, and at least {MIN_SLICES} are needed."
        )
    if 2 * known < asked:
        return (
            f"{count_noun(known, 'slice')} in distribution of the {asked} that show a vertebra, "
            "and at least half are needed."
        )
    if not rule.covers(known):
        return (
            f"{count_noun(known, 'slice')} in distribution, more than the {rule.normal.slices} "
            "normal ones that the model's series score was fitted on; train on more patients."
        )
    return ""


def describe_study(score: StudyScore, shown: int = 5) -> str:
    """Return the verdict in a line, with at most `shown` names for each reason."""
    if score.probability is None:
        told = f"no class: {score.reason}"
    else:
        told = (
            f"{score.prediction} {score.probability:.3f}, from {score.used} of "
            f"{count_noun(score.slices, 'slice')}."
        )
    parts = [f"series {score.series}: {told}"]
    for code, paths in score.left_out.items():
        more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
        parts.append(
            f"Left out, {CODES.get(code, code)}: {len(paths)} ({', '.join(paths[:shown])}{more})."
        )
    return " ".join(parts)
