"""Proof of int8 and bf16: quantise the exported network, and measure what each precision costs.

f32, bf16 and int8 run on the same held-out slices. A faster precision than f32 is chosen only if
its loss of AUROC is bounded and few of its decisions differ from those of f32.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from cspine.data.samples import Samples
from cspine.decide.policy import DecisionPolicy, Decisions
from cspine.evaluate.metrics import compute_metrics, paired_bootstrap_difference
from cspine.model.engine.engine import Engine
from cspine.model.engine.pending_output import EngineOutput
from cspine.model.export.ir import INT8_NAME, IR_NAME, map_ir
from cspine.model.export.quantise import quantise_ir

# NNCF's default; more images would only take longer.
CALIBRATION_IMAGES = 300
# Fewer slices cannot show a loss as small as the bound.
MIN_SLICES = 2000
MAX_AUROC_LOSS = 0.005  # upper 95 % bound
# Share of the decisions that may differ.
MAX_FLIPS = 0.005
ROUNDED = ("int8", "bf16")
# At most this many images are submitted at a time, because the engine holds a copy of each waiting
# image.
_PIECE = 256


def write_int8(folder: Path, h5_sha256: str, images: np.ndarray, seed: int) -> None:
    """Write `best_int8.xml` and `.bin` beside the f32 IR of `folder`.

    `images` uint8 (N, S, S) are training crops. At most 300 of them, drawn with `seed`, are used
    for calibration.
    """
    count = min(CALIBRATION_IMAGES, len(images))
    # Sorted, since the crops are memory-mapped and are read in this order.
    chosen = np.sort(np.random.default_rng(seed).choice(len(images), count, replace=False))
    quantise_ir(folder, h5_sha256, images[chosen])


def compare_precisions(
    folder: Path, h5_sha256: str, samples: Samples, policy: DecisionPolicy, resamples: int
) -> dict[str, Any]:
    """Return the card's `precision` part: figures and choice of a precision.

    The figures are those of each precision on held-out slices.

    `chosen` is the fastest precision that is shown to lose nothing that matters; `why` is the
    reason.
    """
    networks = {"f32": IR_NAME, "bf16": IR_NAME, "int8": INT8_NAME}
    answers: dict[str, Decisions] = {}
    parts: dict[str, Any] = {}
    for name, file in networks.items():
        mapped = map_ir(folder / file, h5_sha256)
        if mapped is None:
            raise RuntimeError(f"{file} was not written correctly")
        engine = Engine.of_mapped(mapped, name, None)
        # The engine is warm, so this measures only inference.
        began = time.perf_counter()
        pieces = range(0, len(samples), _PIECE)
        output = EngineOutput.join(
            [engine.infer(np.asarray(samples.images[i : i + _PIECE])) for i in pieces]
        )
        rate = len(samples) / (time.perf_counter() - began)
        parts[name] = {"images_per_s": round(rate, 1), "computed_in": engine.precision_used}
        answers[name] = policy.decide(output.logit, output.embedding, samples.image_ok)
    for name, answer in answers.items():
        figures = compute_metrics(
            samples.labels, answer.probability, policy.threshold.value, samples.groups, resamples
        )
        parts[name]["auroc"] = figures["auroc"].to_dict()
    for name in ROUNDED:
        parts[name] |= compare_answers(answers["f32"], answers[name], samples, resamples)
    chosen, why = find_proven_precision(parts, len(samples))
    return {"chosen": chosen, "why": why, "slices": len(samples), "compared": parts}


def compare_answers(
    exact: Decisions, other: Decisions, samples: Samples, resamples: int
) -> dict[str, Any]:
    """Return AUROC loss with interval, share of flipped decisions, largest probability change."""
    # A paired bootstrap, since both precisions see the same slices and most of the spread cancels.
    loss = paired_bootstrap_difference(
        samples.labels, exact.probability, other.probability, samples.groups, resamples
    )
    flips = np.mean(np.asarray(exact.prediction) != np.asarray(other.prediction))
    return {
        "auroc_loss": loss.to_dict(),
        "flipped_share": float(flips),
        "largest_probability_change": float(np.abs(exact.probability - other.probability).max()),
    }


def find_proven_precision(parts: dict[str, Any], slices: int) -> tuple[str, str]:
    """Return the precision for `auto` and the reason in words."""
    if slices < MIN_SLICES:
        why = f"{slices} held-out slices are too few to bound the loss; {MIN_SLICES} are needed"
        return "f32", why
    rates = {name: part["images_per_s"] for name, part in parts.items()}
    # A rounded precision is useful only if it is faster.
    faster = [name for name in ROUNDED if _is_proven(name, parts) and rates[name] > rates["f32"]]
    if not faster:
        return "f32", "neither int8 nor bf16 was shown to be faster without a loss that matters"
    fastest = max(faster, key=lambda name: rates[name])
    part = parts[fastest]
    return fastest, (
        f"AUROC loss at most {part['auroc_loss']['high']:.4f} (upper 95 % bound) and "
        f"{part['flipped_share']:.2%} of decisions flipped on {slices} held-out slices"
    )


def _is_proven(name: str, parts: dict[str, Any]) -> bool:
    """Return whether a precision was shown to lose nothing that matters."""
    part = parts[name]
    high = part["auroc_loss"]["high"]
    # If the CPU lacks bf16, f32 was compared with itself, which shows nothing about bf16.
    return bool(
        part["computed_in"] == name
        and high is not None
        and high <= MAX_AUROC_LOSS
        and part["flipped_share"] <= MAX_FLIPS
    )
