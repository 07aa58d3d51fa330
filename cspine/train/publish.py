"""The end of a run: write the model's files, its card, report and leaderboard, and publish them.

All files are made in OUT/run/staging and published together.
"""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cspine.core.atomic_write import replace_folder, written_whole
from cspine.core.labels import CLASS_NAMES
from cspine.data.domain import find_data_domain
from cspine.evaluate.report.inputs import Mistake, ReportInputs, worst_mistakes
from cspine.evaluate.report.page import write_report
from cspine.evaluate.training_fingerprints import write_seen
from cspine.imaging.vertebra.finder import Box
from cspine.model.engine.pending_output import EngineOutput
from cspine.model.explain import heatmap
from cspine.model.export.ir import export_ir
from cspine.model.networks.classifier import Classifier
from cspine.model.store.card import write_card
from cspine.model.store.keras_weights import save_weights
from cspine.model.store.registry import H5_NAME, publish_version
from cspine.train.candidates import RunContext
from cspine.train.fitting.batches import as_pixels
from cspine.train.int8_proof import compare_precisions, write_int8
from cspine.train.model_card import build_card, card_note, list_files
from cspine.train.scoring import ScoredCandidate, detail_figures, score_unboxed

LEADERBOARD, REPORT = "leaderboard.csv", "report"
MISTAKES = 10  # shown in the report
LOWER_IS_BETTER = ("loss", "brier", "ece")
# The report's curve names, and the matching keys of the history.
CURVES = {
    "loss": "loss",
    "val_loss": "validation_loss",
    "val_accuracy": "validation_accuracy",
    "val_auroc": "validation_auroc",
}


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    `version` is the published version, or None if a required bar was missed; `card` is the model
    card; `missed` has one line for each missed bar; `rows` are the leaderboard's rows, with figures
    on the slices that `held_out` describes.
    """

    version: str | None
    card: dict[str, Any]
    missed: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    held_out: str


def publish_run(
    scored: Sequence[ScoredCandidate],
    best: ScoredCandidate,
    context: RunContext,
    extra: Mapping[str, Any],
) -> RunResult:
    """Write all files of the best candidate, and publish them if it reaches every required bar."""
    out = Path(context.config.out)
    staging = context.run_dir / "staging"
    # Files that an interrupted run left must not be published with this run's files.
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    # The `.h5` is written first, because the other files contain its hash.
    digest = _write_model(best, context, staging)
    # Validation slices count as seen too, since they chose the epoch, threshold and calibration.
    learned = (*context.split.train, *context.split.validation)
    write_seen(staging, learned, context.dataset.records)
    # Measured on the files that will be served, not on the network in memory.
    precision = _prove_precision(best, context, staging, digest)
    details = detail_figures(best, context.config)
    # Studies without bounding boxes are compared with the last split's unfractured patients.
    details[best.splits[-1].name]["unboxed_studies"] = score_unboxed(best, context)
    parts = {**extra, "precision": precision, "details": details}
    card = {**build_card(best, context, digest, parts), "files": list_files(staging)}
    write_card(staging, card)
    rows = leaderboard_rows(scored, best)
    write_leaderboard(staging / LEADERBOARD, rows)
    # Written before the bars are checked, so that a run that misses one has a report too.
    write_report(staging / REPORT, _report_inputs(scored, best, card, rows))
    described = list(best.samples.values())[-1].describe()
    missed = find_missed(card["metrics"], context.config.require, described)
    # Published last, so that until here the models folder serves the previous version.
    version = None if missed else publish_version(staging, out)
    if version is not None:
        # Moved after the card, since both must belong to the model that is served.
        (staging / LEADERBOARD).replace(out / LEADERBOARD)
        replace_folder(staging / REPORT, out / REPORT)
    return RunResult(
        version=version,
        card=card,
        missed=missed,
        rows=tuple(rows),
        held_out=best.candidate.held_out.describe(),
    )


def _write_model(best: ScoredCandidate, context: RunContext, staging: Path) -> str:
    """Write `best.h5` and export its IR; return the `.h5`'s SHA-256."""
    classifier, policy = best.candidate.classifier, best.policy
    path = staging / H5_NAME
    digest = save_weights(
        classifier,
        path,
        policy.to_dict(),
        policy.arrays(),
        view=context.view,
        domain=find_data_domain(context.dataset),
        note=card_note(context),
    )
    export_ir(path, staging)
    return digest


def _prove_precision(
    best: ScoredCandidate, context: RunContext, staging: Path, digest: str
) -> dict[str, Any]:
    """Quantise the network, and compare the precisions on the validation slices.

    If the network has learned from these slices too, f32 is chosen without a comparison.
    """
    write_int8(staging, digest, best.candidate.train.images, context.config.seed)
    if best.candidate.distances is not None:
        why = "the shipped network was trained on every slice, so none is left to measure a loss"
        return {"chosen": "f32", "why": why, "slices": 0, "compared": {}}
    held_out = best.samples["validation"]
    return compare_precisions(staging, digest, held_out, best.policy, context.config.resamples)


def leaderboard_rows(
    scored: Sequence[ScoredCandidate], best: ScoredCandidate
) -> list[dict[str, Any]]:
    """Return one row per candidate, the best first: architecture, duration, held-out figures."""
    rows = []
    for one in scored:
        candidate, classifier = one.candidate, one.candidate.classifier
        held_out = one.figures.get("validation") or next(iter(one.figures.values()))
        rows.append(
            {
                "architecture": classifier.name,
                "image_size": classifier.image_size,
                "weights": classifier.origin.get("origin"),
                "parameters": classifier.model.count_params(),
                "best_epoch": candidate.result.best_epoch,
                "stopped": candidate.result.stopped,
                "seconds": round(candidate.seconds, 1),
                "validation_auroc": held_out["auroc"]["value"],
                "validation_auroc_low": held_out["auroc"]["low"],
                "validation_auroc_high": held_out["auroc"]["high"],
                "validation_loss": held_out["loss"]["value"],
                "chosen": one is best,
            }
        )
    # A candidate whose AUROC is undefined comes last.
    return sorted(rows, key=lambda row: -(row["validation_auroc"] or 0.0))


def write_leaderboard(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows as CSV, completely or not at all."""
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def find_missed(
    metrics: Mapping[str, Any], required: Sequence[tuple[str, float]], described: str
) -> tuple[str, ...]:
    """Return one line for each bar that the last split (test, else held-out slices) misses.

    Loss, Brier and ECE must be at most their bar, every other figure at least its bar. `described`
    gives the split's number of slices and patients in words.
    """
    # Splits are in the order in which they were scored, the most important last.
    split = list(metrics)[-1]
    lines = []
    for name, bar in required:
        # The figure is compared, not its lower bound: the user sets the bar for data of known size.
        value = metrics[split][name]["value"]
        is_lower = name in LOWER_IS_BETTER
        if value is None or (value > bar if is_lower else value < bar):
            rule = "at most" if is_lower else "at least"
            shown = "none" if value is None else f"{value:.4f}"
            lines.append(
                f"`{name}` on {split} must be {rule} {bar}. Received: {shown} on {described}"
            )
    return tuple(lines)


def _report_inputs(
    scored: Sequence[ScoredCandidate],
    best: ScoredCandidate,
    card: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> ReportInputs:
    return ReportInputs(
        card=card,
        splits=best.splits,
        candidates={one.candidate.classifier.name: one.figures for one in scored},
        leaderboard=rows,
        histories={
            one.candidate.classifier.name: _curves(one.candidate.result.history) for one in scored
        },
        mistakes=_find_mistakes(best),
        audit=card.get("audit"),
    )


def _curves(history: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return curves by name, with one value per epoch, which is NaN if the epoch was not scored."""
    curves = {
        name: [math.nan if entry.get(key) is None else float(entry[key]) for entry in history]
        for name, key in CURVES.items()
    }
    return {name: values for name, values in curves.items() if not all(map(math.isnan, values))}


def _find_mistakes(best: ScoredCandidate) -> list[Mistake]:
    """Return the worst mistakes of the last split, each with its heat map."""
    split = best.splits[-1]
    samples = best.samples[split.name]
    threshold = best.policy.threshold.value
    found = []
    for index in worst_mistakes(
        split.labels, split.probabilities, threshold, samples.slice_ids, MISTAKES
    ):
        image = np.asarray(samples.images[index])
        width = samples.widths_mm[index]
        found.append(
            Mistake(
                name=str(samples.slice_ids[index]),
                truth=CLASS_NAMES[int(split.labels[index])],
                prediction=(split.predictions or ())[int(index)],
                probability=float(split.probabilities[index]),
                image=image,
                heatmap=explain_crop(best.candidate.classifier, image),
                detail=f"fracture {width:.1f} mm wide" if np.isfinite(width) else "",
            )
        )
    return found


def explain_crop(classifier: Classifier, image: np.ndarray) -> np.ndarray:
    """Return the heat map of one crop, uint8 (S, S) for an image uint8 (S, S)."""
    outputs = classifier.serving.predict_on_batch(as_pixels(image[None]))
    arrays = {name: np.asarray(values) for name, values in outputs.items()}
    output = EngineOutput(
        arrays["logit"][:, 0], arrays["embedding"], arrays["cam"], arrays.get("fracture_map")
    )
    height, width = image.shape
    return heatmap(output, Box(0, 0, width, height), (height, width))
