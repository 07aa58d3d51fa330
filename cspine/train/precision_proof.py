"""int8 with proof: quantises the exported network and measures what each precision costs.

f32, bf16 and int8 run on the same held-out slices; a faster one is chosen only where its loss of
AUROC is bounded and its decisions hardly flip. It knows nothing of training.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cspine.data.samples import Samples
from cspine.decide.policy import DecisionPolicy
from cspine.evaluate.metrics import compute_metrics, paired_bootstrap_difference
from cspine.model.engine.engine import Engine
from cspine.model.engine.pending_output import EngineOutput
from cspine.model.export.ir import INT8_NAME, IR_NAME, read_ir
from cspine.model.export.quantise import quantise_ir

# NNCF's own default; more only take longer.
CALIBRATION_IMAGES = 300
# Fewer cannot show a loss as small as the bound.
MIN_SLICES = 2000
MAX_AUROC_LOSS = 0.005  # upper 95 % bound
# Share of the decisions that may differ.
MAX_FLIPS = 0.005
ROUNDED = ("int8", "bf16")
# At once: the engine holds a copy of each image that waits.
_PIECE = 256


def write_int8(folder: Path, h5_sha256: str, images: np.ndarray, seed: int) -> None:
    """Write `best_int8.xml` and `.bin` beside the f32 IR of `folder`.

    `images` uint8 (N, S, S) are training crops; at most 300 of them, drawn by `seed`, calibrate.
    """
    count = min(CALIBRATION_IMAGES, len(images))
    # Sorted, since the crops are memory-mapped and are read in this order.
    chosen = np.sort(np.random.default_rng(seed).choice(len(images), count, replace=False))
    quantise_ir(folder, h5_sha256, images[chosen])


def compare_precisions(
    folder: Path, h5_sha256: str, samples: Samples, policy: DecisionPolicy, resamples: int
) -> dict[str, Any]:
    """The card's `precision` part: figures of f32, bf16 and int8 on held-out slices, and a choice.

    `chosen` is the fastest precision that is shown to lose nothing that matters, `why` says it.
    """
    networks = {"f32": IR_NAME, "bf16": IR_NAME, "int8": INT8_NAME}
    outputs: dict[str, EngineOutput] = {}
    parts: dict[str, Any] = {}
    for name, file in networks.items():
        engine = Engine(_read(folder / file, h5_sha256), name)
        # The engine has warmed itself, so this times inference alone.
        began = time.perf_counter()
        pieces = range(0, len(samples), _PIECE)
        outputs[name] = EngineOutput.join(
            [engine.infer(np.asarray(samples.images[i : i + _PIECE])) for i in pieces]
        )
        rate = len(samples) / (time.perf_counter() - began)
        parts[name] = {"images_per_s": round(rate, 1), "computed_in": engine.precision_used}
    for name, output in outputs.items():
        parts[name]["auroc"] = _auroc(output, samples, policy, resamples)
    for name in ROUNDED:
        parts[name] |= _compare(outputs["f32"], outputs[name], samples, policy, resamples)
    chosen, why = find_proven_precision(parts, len(samples))
    return {"chosen": chosen, "why": why, "slices": len(samples), "compared": parts}


def _read(path: Path, h5_sha256: str) -> ov.Model:
    network = read_ir(path, h5_sha256)
    if network is None:
        raise RuntimeError(f"{path.name} was not written as it should have been")
    return network


def _auroc(
    output: EngineOutput, samples: Samples, policy: DecisionPolicy, resamples: int
) -> dict[str, Any]:
    said = policy.decide(output.logit, output.embedding, samples.image_ok)
    threshold = policy.threshold.value
    figures = compute_metrics(
        samples.labels, said.probability, threshold, samples.groups, resamples
    )
    return figures["auroc"].to_dict()


def _compare(
    exact: EngineOutput,
    other: EngineOutput,
    samples: Samples,
    policy: DecisionPolicy,
    resamples: int,
) -> dict[str, Any]:
    """AUROC loss with its interval, share of flipped decisions, largest change of probability."""
    first = policy.decide(exact.logit, exact.embedding, samples.image_ok)
    second = policy.decide(other.logit, other.embedding, samples.image_ok)
    # Paired: both precisions see the same slices, so most of the spread cancels.
    loss = paired_bootstrap_difference(
        samples.labels, first.probability, second.probability, samples.groups, resamples
    )
    flips = np.mean(np.asarray(first.prediction) != np.asarray(second.prediction))
    change = np.abs(first.probability - second.probability).max()
    return {
        "auroc_loss": loss.to_dict(),
        "flipped_share": float(flips),
        "largest_probability_change": float(change),
    }


def find_proven_precision(parts: dict[str, Any], slices: int) -> tuple[str, str]:
    """The precision for `auto` and the reason in words."""
    if slices < MIN_SLICES:
        return "f32", f"{slices} held-out slices cannot show a bounded loss; it takes {MIN_SLICES}"
    rates = {name: part["images_per_s"] for name, part in parts.items()}
    # Without being faster there is no reason to round at all.
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
    """Whether a precision was shown to lose nothing that matters."""
    part = parts[name]
    high = part["auroc_loss"]["high"]
    # Where the CPU lacks bf16, f32 was compared with itself: that shows nothing of bf16.
    return bool(
        part["computed_in"] == name
        and high is not None
        and high <= MAX_AUROC_LOSS
        and part["flipped_share"] <= MAX_FLIPS
    )
