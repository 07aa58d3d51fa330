"""Write the tables of docs/configuration.md from the settings in the code.

    python -m tools.configuration_page

Only the tables between `<!-- generated: NAME -->` and `<!-- end -->` are replaced. The rest of the
page is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from cspine.core.cli_flags import FLAG_GROUPS
from cspine.core.serve_settings import PREFIX, ServeSettings
from cspine.core.settings import describe_default
from cspine.core.train_config import TrainConfig

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
_TABLE = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def describe_values(rules: Mapping[str, Any]) -> str:
    """Return the values that a field's metadata allows, in words; empty if any value is allowed."""
    if "choices" in rules:
        return ", ".join(f"`{choice}`" for choice in rules["choices"])
    bounds = " to ".join(
        f"{bound:g}" if isinstance(bound, float) else str(bound) for bound in rules["bounds"]
    )
    return ", ".join(filter(None, (rules.get("rule", ""), bounds)))


def make_table(
    settings: Iterable[tuple[str, Field[Any]]], words: tuple[str, str] = ("false", "true")
) -> str:
    """Return a Markdown table of named fields: name, default, values, meaning."""
    rows = ["", "| setting | default | values | meaning |", "|---|---|---|---|"]
    for name, spec in settings:
        values, text = describe_values(spec.metadata), spec.metadata["help"]
        default = describe_default(spec.default, words)
        shown = "none" if default is None else f"`{default}`"
        cells = (f"`{name}`", shown, values, text)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*rows, "", ""])


def make_tables() -> dict[str, str]:
    """Return the page's tables by name."""
    service = ((PREFIX + one.name.upper(), one) for one in fields(ServeSettings))
    training = {spec.name: spec for spec in fields(TrainConfig)}
    flags = [training.pop(name) for names in FLAG_GROUPS.values() for name in names]
    return {
        "service": make_table(service, ("off", "on")),
        "flags": make_table((f"--{one.name.replace('_', '-')}", one) for one in flags),
        "file": make_table(training.items()),
    }


def fill_page(text: str) -> str:
    """Return the page with every table generated again."""
    tables = make_tables()
    return _TABLE.sub(lambda found: found[1] + tables[found[2]] + found[3], text)


if __name__ == "__main__":
    PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
