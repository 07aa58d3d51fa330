"""The inputs of a report, and the file from which the page can be built again.

`inputs.json` beside the page holds everything except the card: scores as numbers, pictures as PNG.
This module needs neither the model nor the page.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cspine.core.atomic_write import written_whole
from cspine.core.errors import ArtifactError, quote
from cspine.core.labels import FRACTURE
from cspine.stats.intervals import Interval

INPUTS_FILE = "inputs.json"
SCHEMA = 2


@dataclass(frozen=True)
class SplitScores:
    """The shipped model's answers on one split; every array is (N,).

    Fields:
        name: "train", "validation", "test", "out-of-fold" or "site".
        labels: int, 1 is fracture.
        probabilities: calibrated P(fracture), float 0..1; NaN if no vertebra was found.
        groups: patient of each slice, str.
        widths_mm: the fracture's width, NaN if it is unknown; None if no width is known.
        predictions: "fracture", "normal" or "uncertain"; None if not computed.
        in_distribution: bool; None if not computed.
    """

    name: str
    labels: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray
    widths_mm: np.ndarray | None = None
    predictions: Sequence[str] | None = None
    in_distribution: np.ndarray | None = None

    def study_probabilities(self) -> np.ndarray:
        """Return the probabilities from which series scores are computed, float64 (N,).

        A slice without a vertebra or not in distribution does not count and has NaN. The fit, the
        figures and serving all use this rule.
        """
        probabilities = np.asarray(self.probabilities, np.float64)
        if self.in_distribution is None:
            return probabilities
        return np.where(np.asarray(self.in_distribution, bool), probabilities, np.nan)

    def scored(self) -> SplitScores:
        """Return only the slices that have a probability."""
        known = np.isfinite(np.asarray(self.probabilities, np.float64))

        kept: dict[str, Any] = {
            name: np.asarray(values)[known]
            for name, values in vars(self).items()
            if name != "name" and values is not None
        }
        return replace(self, **kept)


@dataclass(frozen=True)
class Mistake:
    """One slice that the model got wrong.

    `image` uint8 (H, W); `heatmap` uint8 (H, W) or None; `truth` and `prediction` class words;
    `probability` 0..1; `detail` further text, such as the width of the fracture.
    """

    name: str
    truth: str
    prediction: str
    probability: float
    image: np.ndarray
    heatmap: np.ndarray | None = None
    detail: str = ""


@dataclass(frozen=True)
class ReportInputs:
    """Everything that a report shows.

    Fields:
        card: the model card; `metrics` {split: {metric: {value, low, high}}} is shown as it is.
        splits: the shipped model's answers. The curves are drawn from the first one that exists in
            the order site, test, out-of-fold, validation, train.
        candidates: architecture → split → metric → {value, low, high}, for the published table.
        leaderboard: one row per candidate, as in leaderboard.csv.
        histories: candidate → series ("loss", "val_loss", …) → one value per epoch.
        mistakes: the worst first; the first ten are shown.
        audit: the data audit as JSON values, or None.
        title: the title of the page.
        proposal: what `describe_proposal` returns for a site's own images, or None.
    """

    card: Mapping[str, Any]
    splits: Sequence[SplitScores] = ()
    candidates: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    leaderboard: Sequence[Mapping[str, Any]] = ()
    histories: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    mistakes: Sequence[Mistake] = ()
    audit: Mapping[str, Any] | None = None
    title: str = "Training report"
    proposal: Mapping[str, Any] | None = None


def worst_mistakes(
    labels: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    slices: np.ndarray,
    count: int = 10,
) -> np.ndarray:
    """Return the indices of the slices on the wrong side of `threshold`, the worst first.

    `slices` (N,) names the slice of each file. If a slice has several files, only the worst counts.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    wrong = (probabilities >= threshold) != (labels == FRACTURE)
    # A slice without a probability had no answer, so it is not a mistake.
    wrong &= np.isfinite(probabilities)
    distance = np.abs(probabilities - labels)
    order = np.argsort(-np.where(wrong, distance, -1.0), kind="stable")[: int(wrong.sum())]
    _, first = np.unique(np.asarray(slices)[order], return_index=True)
    return order[np.sort(first)[:count]]


def save_inputs(path: Path, inputs: ReportInputs) -> None:
    """Write everything except the card to `path` as JSON, completely or not at all."""
    names = ("candidates", "leaderboard", "histories", "audit", "proposal", "title")
    parts: dict[str, Any] = {
        "schema": SCHEMA,
        **{name: plain(getattr(inputs, name)) for name in names},
        # The model's version, so that these inputs are not used for the report of another model.
        "version": inputs.card.get("version"),
        "splits": [plain(vars(split)) for split in inputs.splits],
        "mistakes": [_mistake_parts(mistake) for mistake in inputs.mistakes],
    }
    with written_whole(path) as part:
        part.write_text(json.dumps(parts, allow_nan=False), encoding="utf-8")


def load_inputs(path: Path, card: Mapping[str, Any]) -> ReportInputs:
    """Return the inputs that `save_inputs` wrote, with `card`.

    Raises:
        ArtifactError: the file is missing, damaged, of another schema or of another model.
    """
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
        if parts.pop("schema") != SCHEMA:
            raise ValueError
        version = parts.pop("version", None)
        parts["splits"] = [_read_split(split) for split in parts["splits"]]
        parts["mistakes"] = [_read_mistake(mistake) for mistake in parts["mistakes"]]
        inputs = ReportInputs(card=card, **parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError(
            f"`{path}` must hold the report's inputs. Received: no readable inputs. "
            "Train again, or run `python -m cspine evaluate`."
        ) from None
    if version not in (None, card.get("version")):
        raise ArtifactError(
            f"`{path}` must belong to the card's model, version {card.get('version')}. "
            f"Received: {quote(version)}. Train again, or run `python -m cspine evaluate`."
        )
    return inputs


def plain(value: Any) -> Any:
    """Return `value` as JSON values: arrays as lists, Interval as its parts, NaN as None."""
    if isinstance(value, Interval):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    # JSON has neither NaN nor infinity; null means that the figure does not exist.
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.as_posix()
    return value


def _read_split(parts: dict[str, Any]) -> SplitScores:
    arrays = {
        "labels": np.int64,
        "probabilities": np.float64,
        "groups": str,
        "widths_mm": np.float64,
        "in_distribution": bool,
    }
    read: dict[str, Any] = {
        # NumPy converts None to NaN if the type is float64.
        name: None if parts[name] is None else np.array(parts[name], dtype=kind)
        for name, kind in arrays.items()
    }
    return SplitScores(parts["name"], predictions=parts["predictions"], **read)


def _mistake_parts(mistake: Mistake) -> dict[str, Any]:
    parts = {**vars(mistake), "probability": plain(float(mistake.probability))}
    for name in ("image", "heatmap"):
        if parts[name] is not None:
            parts[name] = base64.b64encode(_png(parts[name])).decode("ascii")
    return parts


def _read_mistake(parts: dict[str, Any]) -> Mistake:
    for name in ("image", "heatmap"):
        if parts[name] is not None:
            # Only PNG is accepted, because the file may come from an untrusted source.
            data = base64.b64decode(parts[name])
            parts[name] = np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)).convert("L"))
    return Mistake(**parts)


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(stream, "PNG", optimize=True)
    return stream.getvalue()
