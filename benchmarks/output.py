"""A benchmark's figures as JSON, on the terminal and in a file. Knows no benchmark."""

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
