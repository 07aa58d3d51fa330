"""The model card of a run as a plain dict: network, data, figures and decision policy.

This module collects the results of other modules; it computes no figure and writes no file.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cspine.core.labels import CLASS_NAMES, FIXED_WINDOW, MEDICAL_NOTICE, POSITIVE_CLASS, SYNTHETIC
from cspine.core.png import encode_png
from cspine.data.domain import find_data_domain
from cspine.evaluate.report.inputs import plain
from cspine.model.networks.classifier import Classifier
from cspine.model.store.card import SCHEMA_VERSION, SYNTHETIC_NOTE
from cspine.model.store.hashes import hash_file
from cspine.model.store.registry import VERSION_LENGTH
from cspine.train.candidates import RunContext
from cspine.train.network_outputs import run_network
from cspine.train.scoring import ScoredCandidate

# Libraries whose version may change a weight, a pixel or a number.
LIBRARIES = ("keras", "tensorflow", "jax", "numpy", "openvino", "nncf", "h5py", "pillow", "pydicom")
# Settings that describe the machine, not the model.
FOLDERS = ("data", "out", "cache")


def card_note(context: RunContext) -> str:
    """Return the note shown with every answer: the configured one, or one that the data need."""
    if context.config.note:
        return context.config.note
    return SYNTHETIC_NOTE if find_data_domain(context.dataset) == SYNTHETIC else ""


def build_card(
    scored: ScoredCandidate, context: RunContext, h5_sha256: str, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the card without `files`; `extra` holds further parts (precision, audit, controls, …).

    Non-finite numbers become null.
    """
    candidate, config = scored.candidate, context.config
    classifier = candidate.classifier
    card = {
        "schema_version": SCHEMA_VERSION,
        "version": h5_sha256[:VERSION_LENGTH],
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "note": card_note(context),
        "domain": find_data_domain(context.dataset),
        "notice": MEDICAL_NOTICE,
        "architecture": classifier.name,
        "revision": classifier.revision,
        "image_size": classifier.image_size,
        "view": context.view,
        "dicom_window": FIXED_WINDOW,
        "map_head": classifier.map_head,
        "class_names": list(CLASS_NAMES),
        "positive_class": POSITIVE_CLASS,
        "preprocessing": _describe_preprocessing(context.view, classifier.image_size),
        "weights": {**classifier.origin, "parameters": classifier.model.count_params()},
        "decision": scored.policy.to_dict(),
        "metrics": scored.figures,
        "data": _describe_data(scored, context),
        "seeds": {"training": config.seed, "phantom": config.phantom_seed},
        "training": {
            "config": {
                name: value for name, value in asdict(config).items() if name not in FOLDERS
            },
            "best_epoch": candidate.result.best_epoch,
            "stopped": candidate.result.stopped,
            "seconds": round(candidate.seconds, 1),
        },
        "libraries": library_versions(),
        "self_test": make_self_test(classifier),
        **extra,
    }
    return {name: plain(value) for name, value in card.items()}


def _describe_preprocessing(view: str, image_size: int) -> dict[str, Any]:
    how = (
        f"a crop of {image_size} × {image_size} source pixels on the vertebra, not resized"
        if view == "vertebra"
        else f"the whole slice, resized to {image_size} × {image_size} pixels"
    )
    return {"view": view, "description": how, "pixels": "uint8 0–255, grey in three channels"}


def _describe_data(scored: ScoredCandidate, context: RunContext) -> dict[str, Any]:
    dataset, split = context.dataset, context.split
    return {
        "layout": dataset.layout,
        "fingerprint": dataset.fingerprint,
        "manifest_sha256": split.manifest_sha256,
        "patients": len({record.patient_id for record in dataset.records}),
        "slices": len({record.slice_id for record in dataset.records}),
        # Fractured studies without bounding boxes (RSNA), which the two counts above leave out.
        "unboxed_studies": len(dataset.unboxed_studies),
        "split_note": split.note,
        "split": context.config.split,
        "sides": {
            name: {
                "slices": len(side),
                "distinct_slices": len(np.unique(side.slice_ids)),
                "fractures": int(side.labels.sum()),
                "patients": len(np.unique(side.groups)),
                "left_out_without_vertebra": side.left_out,
            }
            for name, side in scored.samples.items()
        },
    }


def library_versions() -> dict[str, str]:
    """Return the installed version of each library that may affect the model."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def make_self_test(classifier: Classifier) -> dict[str, Any]:
    """Return three synthetic images and the logits that the loaded network must give for them.

    No image is from a patient. `inputs` are grey PNGs in base64, `expected` are logits, and
    `tolerance` is the allowed error of a logit in f32.
    """
    images = np.stack(_draw_patterns(classifier.image_size))
    logits = run_network(classifier, images).logits
    return {
        "inputs": [base64.b64encode(encode_png(image)).decode("ascii") for image in images],
        # If a logit is not finite, `expected` is too short and the first load fails the test.
        "expected": [float(logit) for logit in logits if math.isfinite(logit)],
        # Far above the differences between f32 kernels, far below those between networks.
        "tolerance": 0.01,
    }


def _draw_patterns(size: int) -> Sequence[np.ndarray]:
    """Return a ramp, a disc and a grid, uint8 (S, S)."""
    rows, columns = np.mgrid[:size, :size]
    # A slope, an edge and fine texture: a wrong layer changes the logit of at least one of them.
    ramp = (rows + columns) * 255 // (2 * size - 2)
    disc = np.where((rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 4) ** 2, 200, 90)
    grid = np.where((rows // 8 + columns // 8) % 2 == 0, 60, 190)
    return [pattern.astype(np.uint8) for pattern in (ramp, disc, grid)]


def list_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every model file in a run's folder, by name."""
    return {
        path.name: hash_file(path)
        for path in sorted(folder.glob("best*"))
        if path.is_file() and path.suffix in (".h5", ".xml", ".bin", ".txt")
    }
