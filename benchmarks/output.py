"""Write a benchmark's figures as JSON to the terminal and to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def print_figures(figures: Mapping[str, Any], out: Path | None) -> None:
    """Print the figures as one JSON object, and write the same to `out` where it is given."""
    text = json.dumps(figures, indent=1, ensure_ascii=False)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
