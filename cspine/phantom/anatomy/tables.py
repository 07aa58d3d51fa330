"""Reader of the anatomy's tables of numbers, which are CSV files in this package."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path


@cache
def load_table(name: str) -> list[dict[str, float]]:
    """Return a CSV file's rows as numbers by column name, without the text column `level`."""
    with Path(__file__).with_name(name).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if k != "level"} for row in rows]
