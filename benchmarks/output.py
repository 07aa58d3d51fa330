"""Output of benchmarks and experiments: JSON on the terminal and, if wanted, in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def print_figures(figures: Mapping[str, Any], out: Path | None) -> None:
    """Print the figures as one JSON object, and also write them to the file `out` if given."""
    text = json.dumps(figures, indent=1, ensure_ascii=False)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
