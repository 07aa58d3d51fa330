"""Fingerprints of the training files: a list beside the model, which `evaluate` looks files up in.

One line a file, the start of the SHA-256 of its bytes, sorted: no path, no patient, no order. The
model card holds the list's own hash, so the list ships with the version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cspine.data.records import Dataset, SliceRecord
from cspine.evaluate.report.card_text import get

SEEN_NAME = "best_seen.txt"
# 64 bits: between a million files and a million others one pair agrees with probability 5e-8.
DIGITS = 16


def write_seen(
    folder: Path, learned: Iterable[SliceRecord], records: Iterable[SliceRecord]
) -> None:
    """Write the list of all `records` of the slices that are `learned`, copies included."""
    slices = {record.slice_id for record in learned}
    # A copy of a slice that was learned is as well known as the slice.
    lines = {r.sha256[:DIGITS] for r in records if r.slice_id in slices and r.sha256}
    (folder / SEEN_NAME).write_text("".join(f"{line}\n" for line in sorted(lines)), "ascii")


def read_seen(folder: Path, card: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the list of the card's model, None where it is not there or of another model."""
    try:
        data = (folder / SEEN_NAME).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != get(card, "files", {}).get(SEEN_NAME):
        return None
    return frozenset(data.decode("ascii").split())


def count_seen(
    dataset: Dataset,
    records: Sequence[SliceRecord],
    card: Mapping[str, Any],
    seen: frozenset[str] | None,
) -> int | None:
    """Return how many of `records` the card's model has seen, None where that is not known."""
    if seen is not None:
        return sum(record.sha256[:DIGITS] in seen for record in records)
    # Without a list only the whole set of the training can be recognised, by its fingerprint.
    return len(records) if dataset.fingerprint == get(card, "data.fingerprint") else None
