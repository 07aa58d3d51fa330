"""The decision policy: the rule by which an answer names a class or is `uncertain`.

A class is named only if the image is in distribution and the conformal set holds just one class,
the class on whose side of the threshold the probability is. Training fits this policy and stores it
as a small JSON dict and a few arrays, from which serving builds the same object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from cspine.core.errors import ArtifactError, quote
from cspine.core.labels import CLASS_NAMES, FRACTURE, NORMAL, UNCERTAIN
from cspine.decide.calibration import Calibration
from cspine.decide.conformal import Conformal
from cspine.decide.out_of_distribution import MAX_CENTRES, InDistribution
from cspine.decide.study_score import NormalLogits, SeriesScore
from cspine.decide.threshold import Threshold

# Most quantiles of normal slices' logits in a card; a fit makes far fewer.
MAX_QUANTILES = 1000
# The names of the in-distribution arrays in a model file.
CENTRES, GAINS, FLOORS = (f"in_distribution_{name}" for name in ("centres", "gains", "floors"))
# Bounds of the numbers in a card. A scale that is not positive would reverse the order of slices.
SHARE, SCALE, OFFSET = (0, 1), (1e-9, 1e9), (-1e9, 1e9)
# Scaling of the embedding's units → the arrays that a model file must hold.
NEEDED = {"linear": (CENTRES, GAINS), "log": (CENTRES, GAINS, FLOORS)}


@dataclass(frozen=True)
class Decisions:
    """The answers for N images.

    `probability` float64 (N,), 0..1, calibrated P(fracture); `in_distribution` bool (N,);
    `prediction` N of "fracture", "normal" or "uncertain".
    """

    probability: np.ndarray
    in_distribution: np.ndarray
    prediction: list[str]


@dataclass(frozen=True)
class DecisionPolicy:
    """All that turns a logit into an answer; `series` is None if no series score was fitted."""

    calibration: Calibration
    threshold: Threshold
    conformal: Conformal
    in_distribution: InDistribution
    series: SeriesScore | None = None

    def check_units(self, units: int) -> None:
        """Refuse a network whose embedding does not have as many units as the centres.

        Raises:
            ArtifactError: the numbers differ.
        """
        measured = self.in_distribution.centres.shape[1]
        if measured != units:
            raise ArtifactError(
                f"`{CENTRES}` must have {units} units, as the network's embedding has. "
                f"Received: {measured}"
            )

    def decide(self, logits: np.ndarray, embeddings: np.ndarray, image_ok: np.ndarray) -> Decisions:
        """Return the answers for logits (N,), embeddings (N, D) and bool image checks (N,)."""
        return self.decide_known(logits, self.in_distribution.accepts(embeddings), image_ok)

    def decide_known(
        self, logits: np.ndarray, known: np.ndarray, image_ok: np.ndarray
    ) -> Decisions:
        """Return the answers; `known`, bool (N,), says which embeddings are in distribution."""
        probability = self.calibration.apply(logits)
        # An image must pass both: the image checks find pictures that are no neck CT, and the
        # embedding distance finds pictures that only the network sees as unusual.
        both = np.asarray(known, bool) & np.asarray(image_ok, bool)
        return Decisions(probability, both, self.predict(probability, both))

    def predict(self, probability: np.ndarray, in_distribution: np.ndarray) -> list[str]:
        """Return the answers for calibrated probabilities (N,) and bool `in_distribution` (N,)."""
        sets = self.conformal.sets(probability)  # (N, 2)
        side = np.where(self.threshold.apply(probability), FRACTURE, NORMAL)
        # With an empty set, the slice is like the held-out slices of neither class, so the answer
        # is as uncertain as with both classes.
        agreed = (sets.sum(axis=1) == 1) & sets[np.arange(len(side)), side]
        named = agreed & np.asarray(in_distribution, bool)
        return [CLASS_NAMES[c] if yes else UNCERTAIN for c, yes in zip(side, named, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Return the card's `decision` part: finite JSON numbers and words, no NumPy arrays."""
        conformal, distance = self.conformal, self.in_distribution
        parts: dict[str, Any] = {
            "calibration": asdict(self.calibration),
            "threshold": asdict(self.threshold),
            "conformal": {
                "alpha": conformal.alpha,
                "quantiles": {
                    "normal": conformal.quantile_normal,
                    "fracture": conformal.quantile_fracture,
                },
            },
            "in_distribution": {
                name: getattr(distance, name) for name in ("threshold", "quantile", "scaling")
            },
        }
        return parts if self.series is None else {**parts, "series": asdict(self.series)}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the in-distribution arrays, which `to_dict` leaves out: float32 (K, D) or (D,)."""
        distance = self.in_distribution
        floors = {} if distance.floors is None else {FLOORS: distance.floors}
        return {CENTRES: distance.centres, GAINS: distance.gains, **floors}

    @classmethod
    def from_parts(
        cls, decision: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> DecisionPolicy:
        """Build the policy that `to_dict` and `arrays` describe.

        Raises:
            ArtifactError: a part is missing, of the wrong type or shape, or not finite.
        """
        conformal = _part(decision, "conformal")
        # Every number is checked, because the card may come from an untrusted source.
        quantiles = _part(conformal, "quantiles")
        return cls(
            calibration=_read_calibration(_part(decision, "calibration")),
            threshold=read_threshold(decision),
            conformal=Conformal(
                _number(conformal, "alpha", *SHARE),
                _number(quantiles, "normal", *SHARE),
                _number(quantiles, "fracture", *SHARE),
            ),
            in_distribution=_read_in_distribution(_part(decision, "in_distribution"), arrays),
            series=read_series(decision),
        )


def read_decision(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a card's `decision` part.

    Raises:
        ArtifactError: the part is missing or not an object.
    """
    return _part(card, "decision")


def _part(decision: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = decision.get(name)
    if not isinstance(part, Mapping):
        raise ArtifactError(f"The model card must hold an object `{name}`. Received: {quote(part)}")
    return part


def _number(part: Mapping[str, Any], name: str, low: float, high: float) -> float:
    value = part.get(name)
    # `True` is an int in Python, and NaN fails the comparison.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        shown = quote(value)
        raise ArtifactError(f"`{name}` must be a number from {low} to {high}. Received: {shown}")
    return float(value)


def _optional_number(part: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    return None if part.get(name) is None else _number(part, name, low, high)


def _word(part: Mapping[str, Any], name: str) -> str:
    value = part.get(name)
    # The length is limited, because pages and messages show the word.
    if not isinstance(value, str) or len(value) > 40:
        raise ArtifactError(f"`{name}` must be a word. Received: {quote(value)}")
    return value


def _read_calibration(part: Mapping[str, Any]) -> Calibration:
    scale, offset = _number(part, "scale", *SCALE), _number(part, "offset", *OFFSET)
    low_scale = _optional_number(part, "low_scale", *SCALE)
    return Calibration(_word(part, "method"), scale, offset, low_scale)


def read_threshold(decision: Mapping[str, Any]) -> Threshold:
    """Return the slice threshold of a card's `decision` part.

    Raises:
        ArtifactError: the threshold is missing or malformed.
    """
    part = _part(decision, "threshold")
    target = _optional_number(part, "target", *SHARE)
    return Threshold(_number(part, "value", *SHARE), _word(part, "method"), target)


def read_series(decision: Mapping[str, Any]) -> SeriesScore | None:
    """Return the series score of a card's `decision` part, or None if it has none.

    Raises:
        ArtifactError: the series score is malformed.
    """
    if decision.get("series") is None:
        return None
    part = _part(decision, "series")
    return SeriesScore(
        top=int(_number(part, "top", 1, 1000)),
        scale=_number(part, "scale", *SCALE),
        offset=_number(part, "offset", *OFFSET),
        threshold=_number(part, "threshold", *SHARE),
        normal=_read_normal(_part(part, "normal")),
    )


def _read_normal(part: Mapping[str, Any]) -> NormalLogits:
    """Return the checked quantiles of normal slices' logits."""
    values = part.get("quantiles")
    if not isinstance(values, list | tuple) or not 2 <= len(values) <= MAX_QUANTILES:
        raise ArtifactError(
            f"`quantiles` must be a list of 2 to {MAX_QUANTILES} numbers. Received: {quote(values)}"
        )
    # Each number gets its own name, so that a message says which one is wrong.
    named = {f"quantiles[{i}]": value for i, value in enumerate(values)}
    quantiles = tuple(_number(named, name, -1e3, 1e3) for name in named)
    if any(after < before for before, after in pairwise(quantiles)):
        raise ArtifactError("`quantiles` must be in ascending order. Received: some that are not")
    return NormalLogits(quantiles, int(_number(part, "slices", 1, 1e9)))


def _read_in_distribution(
    part: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> InDistribution:
    scaling = part.get("scaling")
    if not isinstance(scaling, str) or scaling not in NEEDED:
        raise ArtifactError(
            f"`scaling` must be one of {', '.join(NEEDED)}. Received: {quote(scaling)}"
        )
    missing = [name for name in NEEDED[scaling] if name not in arrays]
    if missing:
        raise ArtifactError(
            f"The model file must hold {', '.join(missing)}, as this version writes it. "
            "Received: none. Train the model again"
        )
    # The shape is checked here, since a wrong shape would fail only later, without the file's name.
    centres = np.asarray(arrays[CENTRES], np.float32)
    if centres.ndim != 2 or not 1 <= len(centres) <= MAX_CENTRES or not np.isfinite(centres).all():
        raise ArtifactError(
            f"`{CENTRES}` must be finite, of shape (K, D) with 1 ≤ K ≤ {MAX_CENTRES}. "
            f"Received: {centres.shape}"
        )
    units = centres.shape[1]
    return InDistribution(
        centres=centres,
        threshold=_number(part, "threshold", 0, 1e30),
        quantile=_number(part, "quantile", *SHARE),
        gains=_read_units(arrays, GAINS, units),
        floors=_read_units(arrays, FLOORS, units) if scaling == "log" else None,
    )


def _read_units(arrays: Mapping[str, np.ndarray], name: str, units: int) -> np.ndarray:
    """Return an array of one positive number for each unit (D,)."""
    values = np.asarray(arrays[name], np.float32)
    if values.shape != (units,) or not (np.isfinite(values) & (values > 0)).all():
        raise ArtifactError(
            f"`{name}` must be finite and positive, of shape ({units},). Received: {values.shape}"
        )
    return values
