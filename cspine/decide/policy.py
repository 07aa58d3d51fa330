"""The one precedence: when an answer names a class, and when it says `uncertain`.

A class is named only when the image is in distribution and the conformal set is exactly the class
on whose side of the threshold the probability lies. Training fits this policy, stores it as a small
JSON dict and a few arrays, and serving builds the same object from them. It knows no pixels.
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

# Of normal slices' logits, for the series score: many times what a fit makes.
MAX_QUANTILES = 1000
# The names under which a model file holds the gate's arrays.
CENTRES, GAINS, FLOORS = (f"in_distribution_{name}" for name in ("centres", "gains", "floors"))
# The arrays that a gate must have, by how it scales the embedding's units.
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
    """All that stands between a logit and an answer; `series` is None where it was not fitted."""

    calibration: Calibration
    threshold: Threshold
    conformal: Conformal
    in_distribution: InDistribution
    series: SeriesScore | None = None

    def check_units(self, units: int) -> None:
        """Refuse a network whose embedding, of so many units, the gate does not measure.

        Raises:
            ArtifactError: the gate has another number.
        """
        measured = self.in_distribution.centres.shape[1]
        if measured != units:
            raise ArtifactError(
                f"The gate must measure an embedding of {units} units, as the network gives. "
                f"Received: {measured}"
            )

    def decide(self, logits: np.ndarray, embeddings: np.ndarray, image_ok: np.ndarray) -> Decisions:
        """Return the answers for logits (N,), embeddings (N, D) and bool image checks (N,)."""
        return self.decide_known(logits, self.in_distribution.accepts(embeddings), image_ok)

    def decide_known(
        self, logits: np.ndarray, known: np.ndarray, image_ok: np.ndarray
    ) -> Decisions:
        """Return the answers where bool (N,) `known` says which embeddings are no strangers'."""
        probability = self.calibration.apply(logits)
        # Both must agree: the picture's check sees what the network was never meant to, the
        # distance what the picture hides.
        both = np.asarray(known, bool) & np.asarray(image_ok, bool)
        return Decisions(probability, both, self.predict(probability, both))

    def predict(self, probability: np.ndarray, in_distribution: np.ndarray) -> list[str]:
        """Return the precedence's answer for calibrated probabilities (N,) and the gate (N,)."""
        sets = self.conformal.sets(probability)  # (N, 2)
        side = np.where(self.threshold.apply(probability), FRACTURE, NORMAL)
        # An empty set is as uncertain as a full one: neither class is like what was seen.
        agreed = (sets.sum(axis=1) == 1) & sets[np.arange(len(side)), side]
        named = agreed & np.asarray(in_distribution, bool)
        return [CLASS_NAMES[c] if yes else UNCERTAIN for c, yes in zip(side, named, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Return the card's `decision` part: finite JSON numbers and words, no arrays."""
        calibration, gate = self.calibration, self.in_distribution
        parts: dict[str, Any] = {
            "calibration": vars(calibration).copy(),
            "threshold": vars(self.threshold).copy(),
            "conformal": {
                "alpha": self.conformal.alpha,
                "quantiles": {
                    "normal": self.conformal.quantile_normal,
                    "fracture": self.conformal.quantile_fracture,
                },
            },
            "in_distribution": {
                "threshold": gate.threshold,
                "quantile": gate.quantile,
                "scaling": gate.scaling,
            },
        }
        if self.series is not None:
            parts["series"] = asdict(self.series)
        return parts

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the gate's arrays, which `to_dict` leaves out: float32 (K, D) or (D,)."""
        gate = self.in_distribution
        floors = {} if gate.floors is None else {FLOORS: gate.floors}
        return {CENTRES: gate.centres, GAINS: gate.gains, **floors}

    @classmethod
    def from_parts(
        cls, decision: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> DecisionPolicy:
        """Build the policy that `to_dict` and `arrays` describe.

        Raises:
            ArtifactError: a part is missing, of the wrong type or shape, or not finite.
        """
        conformal = _part(decision, "conformal")
        # Each number is checked on its way in: a card comes from a file that anybody may have
        # written.
        quantiles = _part(conformal, "quantiles")
        return cls(
            _read_calibration(_part(decision, "calibration")),
            read_threshold(decision),
            Conformal(
                _number(conformal, "alpha", 0, 1),
                _number(quantiles, "normal", 0, 1),
                _number(quantiles, "fracture", 0, 1),
            ),
            _read_gate(_part(decision, "in_distribution"), arrays),
            read_series(decision),
        )


def read_decision(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a card's `decision` part.

    Raises:
        ArtifactError: it is missing or no object.
    """
    return _part(card, "decision")


def _part(decision: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = decision.get(name)
    if not isinstance(part, Mapping):
        shown = quote(part)
        raise ArtifactError(f"The model card must hold an object `{name}`. Received: {shown}")
    return part


def _number(part: Mapping[str, Any], name: str, low: float, high: float) -> float:
    value = part.get(name)
    # `True` is an int in Python, and NaN fails the comparison.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        shown = quote(value)
        raise ArtifactError(f"`{name}` must be a number from {low} to {high}. Received: {shown}")
    return float(value)


def _word(part: Mapping[str, Any], name: str) -> str:
    value = part.get(name)
    # The word ends up in pages and messages, so it stays short.
    if not isinstance(value, str) or len(value) > 40:
        raise ArtifactError(f"`{name}` must be a word. Received: {quote(value)}")
    return value


def _read_calibration(part: Mapping[str, Any]) -> Calibration:
    # Positive, or a card could turn the order of slices round.
    scale, offset = _number(part, "scale", 1e-9, 1e9), _number(part, "offset", -1e9, 1e9)
    low = None if part.get("low_scale") is None else _number(part, "low_scale", 1e-9, 1e9)
    return Calibration(_word(part, "method"), scale, offset, low)


def read_threshold(decision: Mapping[str, Any]) -> Threshold:
    """Return the slice threshold of a card's `decision` part.

    Raises:
        ArtifactError: it is missing, or not the numbers and word it must be.
    """
    part = _part(decision, "threshold")
    target = None if part.get("target") is None else _number(part, "target", 0, 1)
    return Threshold(_number(part, "value", 0, 1), _word(part, "method"), target)


def read_series(decision: Mapping[str, Any]) -> SeriesScore | None:
    """Return the series score of a card's `decision` part, None where it has none.

    Raises:
        ArtifactError: it is there, and no object of the numbers it must be.
    """
    if decision.get("series") is None:
        return None
    part = _part(decision, "series")
    return SeriesScore(
        int(_number(part, "top", 1, 1000)),
        _number(part, "scale", 1e-9, 1e9),
        _number(part, "offset", -1e9, 1e9),
        _number(part, "threshold", 0, 1),
        _read_normal(_part(part, "normal")),
    )


def _read_normal(part: Mapping[str, Any]) -> NormalLogits:
    """Return how high normal slices' logits are, checked."""
    values = part.get("quantiles")
    if not isinstance(values, list | tuple) or not 2 <= len(values) <= MAX_QUANTILES:
        raise ArtifactError(
            f"`quantiles` must be a list of 2 to {MAX_QUANTILES} numbers. Received: {quote(values)}"
        )
    # Each under its own name, so that the message says which.
    named = {f"quantiles[{i}]": value for i, value in enumerate(values)}
    quantiles = tuple(_number(named, name, -1e3, 1e3) for name in named)
    if any(after < before for before, after in pairwise(quantiles)):
        raise ArtifactError("`quantiles` must not fall. Received: some that do")
    return NormalLogits(quantiles, int(_number(part, "slices", 1, 1e9)))


def _read_gate(part: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> InDistribution:
    scaling = part.get("scaling")
    if not isinstance(scaling, str) or scaling not in NEEDED:
        raise ArtifactError(
            f"`scaling` must be one of {', '.join(NEEDED)}. Received: {quote(scaling)}"
        )
    missing = [name for name in NEEDED[scaling] if name not in arrays]
    if missing:
        raise ArtifactError(
            f"The model file must hold {', '.join(missing)}, as this version trains it; train "
            "again. Received: none"
        )
    # Shapes before values: a bad shape would fail later, far from the file that has it.
    centres = np.asarray(arrays[CENTRES], np.float32)
    if centres.ndim != 2 or not 1 <= len(centres) <= MAX_CENTRES or not np.isfinite(centres).all():
        raise ArtifactError(
            f"`{CENTRES}` must be (K, D), 1 ≤ K ≤ {MAX_CENTRES}, and finite. "
            f"Received: {centres.shape}"
        )
    units = centres.shape[1]
    return InDistribution(
        centres,
        _number(part, "threshold", 0, 1e30),
        _number(part, "quantile", 0, 1),
        _read_scale(arrays, GAINS, units),
        _read_scale(arrays, FLOORS, units) if scaling == "log" else None,
    )


def _read_scale(arrays: Mapping[str, np.ndarray], name: str, units: int) -> np.ndarray:
    """Return one of the gate's scales (D,)."""
    values = np.asarray(arrays[name], np.float32)
    if values.shape != (units,) or not (np.isfinite(values) & (values > 0)).all():
        raise ArtifactError(
            f"`{name}` must be ({units},), finite and positive. Received: {values.shape}"
        )
    return values
