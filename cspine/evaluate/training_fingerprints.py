"""Fingerprints of the training files: a list, beside the model, in which `evaluate` looks up files.

Each line is the start of the SHA-256 of one file's bytes. The lines are sorted, so the list reveals
no path, no patient and no order. The model card holds the hash of the list, which ties it to the
version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cspine.data.records import Dataset, SliceRecord
from cspine.evaluate.report.card_text import get

SEEN_NAME = "best_seen.txt"
# 64 bits: the probability that any of a million files agrees with any of a million others is 5e-8.
DIGITS = 16


def write_seen(
    folder: Path, learned: Iterable[SliceRecord], records: Iterable[SliceRecord]
) -> None:
    """Write the list of those `records` that show a slice of `learned`, including copies."""
    slices = {record.slice_id for record in learned}
    # The model knows a copy as well as the slice that it was trained on.
    lines = {r.sha256[:DIGITS] for r in records if r.slice_id in slices and r.sha256}
    (folder / SEEN_NAME).write_text("".join(f"{line}\n" for line in sorted(lines)), "ascii")


def read_seen(folder: Path, card: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the list, None if it is missing or does not belong to the card's model."""
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
    """Return how many of `records` the card's model has seen, None if that is not known."""
    if seen is not None:
        return sum(record.sha256[:DIGITS] in seen for record in records)
    # Without a list, only the complete training set can be recognised, by its fingerprint.
    return len(records) if dataset.fingerprint == get(card, "data.fingerprint") else None
