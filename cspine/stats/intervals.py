"""A figure with its 95 % interval, computed from resampled figures or from a count."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

COVERAGE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its 95 % interval; NaN for what does not exist."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return `value`, `low`, `high` as finite JSON numbers, None for NaN."""
        return {n: number if math.isfinite(number) else None for n, number in vars(self).items()}

    @classmethod
    def from_dict(cls, parts: dict[str, float | None]) -> Interval:
        """Build the interval that `to_dict` describes."""
        numbers = (parts.get(name) for name in ("value", "low", "high"))
        return cls(*(math.nan if number is None else float(number) for number in numbers))


def percentile_interval(value: float, resampled: np.ndarray) -> Interval:
    """Return `value` with the percentile interval of resampled figures (R,).

    Resamples in which the figure does not exist (NaN) are left out. If they are more than half of
    all resamples, the ends of the interval are NaN.
    """
    known = resampled[np.isfinite(resampled)]
    # An interval from fewer than half of the resamples would look more certain than it is.
    if len(known) < max(1, len(resampled) / 2):
        return Interval(float(value), math.nan, math.nan)
    low, high = np.quantile(known, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(float(value), float(low), float(high))


def wilson_interval(count: int, total: int) -> Interval:
    """Return the share `count` / `total` of independent cases with its 95 % Wilson interval."""
    # Imported here: SciPy's statistics take half a second, and only a report needs them.
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(COVERAGE, method="wilson")
    return Interval(count / total, float(found.low), float(found.high))
