"""Measurement of how long each stage of a prediction takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from cspine.model.engine.pending_output import PendingOutput

Result = TypeVar("Result")
Observe = Callable[[str, float], None]  # (stage, seconds)


def ignore_stage(stage: str, seconds: float) -> None:
    """Do nothing; the default for `observe`."""


def time_stage(observe: Observe, stage: str, work: Callable[[], Result]) -> Result:
    """Return the result of `work`, and report its seconds to `observe` even if it fails."""
    start = time.perf_counter()
    try:
        return work()
    finally:
        observe(stage, time.perf_counter() - start)


def observe_engine(observe: Observe, output: PendingOutput) -> None:
    """Report how long an image waited for the engine, and how long its inference took."""
    ended_s = time.perf_counter()
    started_s = output.started_s or ended_s
    observe("queue", started_s - output.asked_s)
    # An image that was dropped in the queue was never computed.
    if output.started_s is not None:
        observe("inference", ended_s - started_s)
