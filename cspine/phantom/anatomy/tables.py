"""Reader of the anatomy's tables of numbers, CSV files beside this one."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path


@cache
def load_table(name: str) -> list[dict[str, float]]:
    """Return the rows of a CSV file, each column name → number; `level` (text) is left out."""
    with Path(__file__).with_name(name).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if k != "level"} for row in rows]
