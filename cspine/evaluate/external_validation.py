"""Score a site's own labelled images, for the same kind of report as that of a training.

The model is not retrained, but a new threshold, chosen on these images, is proposed. The model is
passed as a function: `predict` takes the bytes of one image and answers as the service would.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cspine.core.atomic_write import written_whole
from cspine.core.errors import DataError
from cspine.core.labels import CLASS_NAMES
from cspine.core.progress import progress
from cspine.data.records import Dataset, SliceRecord
from cspine.data.split import keep_originals
from cspine.decide.policy import read_decision, read_series, read_threshold
from cspine.decide.study_score import SeriesScore
from cspine.evaluate.external_figures import describe_proposal, summarise
from cspine.evaluate.report.card_text import calibrated_share, get
from cspine.evaluate.report.inputs import Mistake, ReportInputs, SplitScores, worst_mistakes
from cspine.evaluate.training_fingerprints import count_seen
from cspine.evaluate.unlocalised_studies import describe_unboxed_studies

log = logging.getLogger(__name__)
SITE = "site"
WORKERS = 4
MISTAKES = 10


class Answer(Protocol):
    """The answer of `predict` for one image, as the service would give it."""

    @property
    def prediction(self) -> str:
        """Return "fracture", "normal" or "uncertain"."""

    @property
    def probability(self) -> float | None:
        """Return calibrated P(fracture), 0..1; None if no vertebra was found."""

    @property
    def in_distribution(self) -> bool:
        """Return whether the image looks like those of training."""

    @property
    def heatmap(self) -> np.ndarray | None:
        """Return uint8 (H, W) if an explanation was requested and a crop exists."""

    @property
    def grey(self) -> np.ndarray | None:
        """Return the picture, uint8 (H, W), if an explanation was requested."""


Predict = Callable[[bytes, bool], Answer]  # (bytes of one image, whether to explain)


@dataclass(frozen=True)
class SiteResult:
    """The figures of a site's images: `summary` for machines, `inputs` for the report.

    `records` and `scores` hold the same slices in the same order.
    """

    summary: dict[str, Any]
    inputs: ReportInputs
    records: tuple[SliceRecord, ...]
    scores: SplitScores


def evaluate_site(
    dataset: Dataset,
    predict: Predict,
    card: Mapping[str, Any],
    split: str | None = None,
    resamples: int = 1000,
    audit: Mapping[str, Any] | None = None,
    seen: frozenset[str] | None = None,
) -> SiteResult:
    """Score one variant of every labelled slice and compute the figures.

    Args:
        dataset: the images, in which the audit has joined copies.
        predict: returns the answer for one image; it is called from several threads.
        card: the model's card.
        split: use only this side of the folders, "train", "validation" or "test"; None for all.
        resamples: bootstrap samples behind each interval, at least 1.
        audit: the audit of these images as JSON values, which the page shows.
        seen: what `read_seen` returns; None if the model has no list.

    Raises:
        DataError: there is no labelled slice, or the slices with a vertebra lack a class.
    """
    records, copies = choose_slices(dataset.records, split)
    answers = _predict_all(dataset, records, predict)
    scores = _gather(records, answers)
    # Slices without a vertebra have no probability. They are counted, but are in no figure.
    known = scores.scored()
    if len(np.unique(known.labels)) < 2:
        raise DataError(
            "The images must hold both classes, each with a slice in which a vertebra is found. "
            f"Received: {len(known.labels)} such slices of {len(records)}"
        )
    decision = read_decision(card)
    threshold = read_threshold(decision)
    series = read_series(decision)
    summary = summarise(scores, threshold, series, resamples)
    summary["copies_left_out"] = copies
    summary["unboxed_studies"] = _score_unboxed(dataset, predict, scores, series, resamples)
    # The most common mistake is to trust good figures on images that the model was trained on.
    summary["seen_in_training"] = count_seen(dataset, records, card, seen)
    inputs = ReportInputs(
        card=_page_card(card, summary, dataset, known, split),
        splits=[scores],
        mistakes=_find_mistakes(dataset, records, scores, predict, threshold.value),
        audit=audit,
        title=f"Evaluation on {dataset.root.resolve().name}",
        proposal=describe_proposal(summary),
    )
    return SiteResult(summary, inputs, records, scores)


def _page_card(
    card: Mapping[str, Any],
    summary: Mapping[str, Any],
    dataset: Dataset,
    known: SplitScores,
    split: str | None,
) -> dict[str, Any]:
    """Return the model's card with the figures and counts of these images instead of its own."""
    counts = "slices fractures patients copies_left_out without_vertebra seen_in_training".split()
    site = {
        "name": dataset.root.resolve().name,
        "layout": dataset.layout,
        "split": split,
        **{name: summary[name] for name in counts},
        "calibrated_share": calibrated_share(card),
    }
    side = {"slices": len(known.labels), "patients": len(np.unique(known.groups))}
    details = {
        "patients": summary["patient_metrics"],
        "patients_scored": summary["patients_scored"],
        "unboxed_studies": summary["unboxed_studies"],
    }
    return {
        **card,
        "metrics": {SITE: summary["metrics"]},
        "details": {SITE: details},
        "data": {**get(card, "data", {}), "site": site, "sides": {SITE: side}},
        # The card's controls were measured on the training data, not on these images.
        "controls": {},
    }


def choose_slices(
    records: Sequence[SliceRecord], split: str | None = None
) -> tuple[tuple[SliceRecord, ...], int]:
    """Return one labelled record per slice, as in training, and the number of copies left out.

    Raises:
        DataError: there is none.
    """
    labelled = [r for r in records if r.label is not None and split in (None, r.split)]
    if not labelled:
        wanted = "labelled images" if split is None else f"labelled images of the split `{split}`"
        raise DataError(f"The data set must hold {wanted}. Received: none")
    chosen = keep_originals(labelled)
    return chosen, len(labelled) - len(chosen)


def write_answers(path: Path, result: SiteResult) -> None:
    """Write one CSV row per slice: path, patient, truth, probability, answer, in distribution."""
    scores = result.scores
    rows = zip(
        result.records,
        scores.labels,
        scores.probabilities,
        scores.predictions or (),
        np.asarray(scores.in_distribution),
        strict=True,
    )
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ("path", "patient_id", "truth", "probability", "prediction", "in_distribution")
        )
        for record, label, p, prediction, known in rows:
            shown = f"{p:.6f}" if np.isfinite(p) else ""
            truth = CLASS_NAMES[int(label)]
            writer.writerow((record.path, record.patient_id, truth, shown, prediction, bool(known)))


def _predict_all(
    dataset: Dataset, records: Sequence[SliceRecord], predict: Predict
) -> list[Answer]:
    # The engine computes on its own streams; these threads only feed it.
    with ThreadPoolExecutor(WORKERS) as pool:
        answers = pool.map(lambda r: predict(dataset.read_bytes(r.path), False), records)
        return list(progress(answers, "evaluating", len(records)))


def _gather(records: Sequence[SliceRecord], answers: Sequence[Answer]) -> SplitScores:
    widths = np.array([np.nan if r.width_mm is None else r.width_mm for r in records])
    probabilities = [np.nan if a.probability is None else a.probability for a in answers]
    return SplitScores(
        name=SITE,
        labels=np.array([record.label for record in records], np.int64),
        probabilities=np.array(probabilities, np.float64),
        groups=np.array([record.patient_id for record in records]),
        widths_mm=widths if np.isfinite(widths).any() else None,
        predictions=[answer.prediction for answer in answers],
        in_distribution=np.array([answer.in_distribution for answer in answers], bool),
    )


def _score_unboxed(
    dataset: Dataset,
    predict: Predict,
    scores: SplitScores,
    series: SeriesScore | None,
    resamples: int,
) -> dict[str, Any]:
    """Return `describe_unboxed_studies`, or {} if such studies or a series score are missing."""
    if series is None or not dataset.unboxed_studies:
        return {}
    records = dataset.unboxed_with_labels()
    unboxed = _gather(records, _predict_all(dataset, records, predict))
    studies = len(dataset.unboxed_studies)
    return describe_unboxed_studies(studies, unboxed, scores, series, resamples)


def _find_mistakes(
    dataset: Dataset,
    records: Sequence[SliceRecord],
    scores: SplitScores,
    predict: Predict,
    threshold: float,
) -> list[Mistake]:
    found = []
    slices = np.array([record.slice_id for record in records])
    for index in worst_mistakes(scores.labels, scores.probabilities, threshold, slices, MISTAKES):
        # The model is run again, now with an explanation. For ten slices that is cheaper than to
        # keep the heat maps of all slices.
        answer = predict(dataset.read_bytes(records[index].path), True)
        if answer.grey is None or answer.probability is None:
            continue
        width = records[index].width_mm
        found.append(
            Mistake(
                name=records[index].path,
                truth=CLASS_NAMES[int(scores.labels[index])],
                prediction=answer.prediction,
                probability=answer.probability,
                image=answer.grey,
                heatmap=answer.heatmap,
                detail="" if width is None else f"fracture {width:.2f} mm wide",
            )
        )
    return found
