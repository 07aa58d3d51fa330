"""Write MODEL_CARD.md, the readable card of the shipped model, from models/best.json.

    python -m tools.model_card

The template is model_card.md in this folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cspine.core.labels import MEDICAL_NOTICE
from cspine.evaluate.report.card_text import card_facts, limits

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "MODEL_CARD.md"
METRICS = {
    "auroc": "AUROC",
    "auprc": "area under the precision–recall curve",
    "accuracy": "accuracy at the threshold",
    "recall": "sensitivity at the threshold",
    "specificity": "specificity at the threshold",
    "brier": "Brier score",
    "ece": "expected calibration error",
}
TEMPLATE = Path(__file__).with_suffix(".md")


def make_page(card: Mapping[str, Any]) -> str:
    """Return the content of a model's `best.json` as Markdown."""
    details, data = card["details"]["test"], card["data"]
    facts = card_facts(card)
    facts["data"] = facts["data"][0].upper() + facts["data"][1:]
    return TEMPLATE.read_text(encoding="utf-8").format(
        **facts
        | {"slices": data["slices"], "patients": data["patients"]}
        | {
            "notice": MEDICAL_NOTICE,
            "domain": card["domain"],
            "parameters": card["weights"]["parameters"],
            "minutes": card["training"]["seconds"] / 60,
            "seed": card["seeds"]["training"],
            "sides": _rows(_side(name, data["sides"][name]) for name in data["sides"]),
            "uncertain": details["uncertain_share"],
            "figures": _rows(_figure(card["metrics"]["test"], name) for name in METRICS),
            "widths": _rows(
                _width(*item) for item in sorted(details["by_width"].items(), key=_order)
            ),
            "limits": "\n".join(f"- {limit}" for limit in limits(card)),
            "files": _rows((f"`{name}`", f"`{sha}`") for name, sha in card["files"].items()),
        }
    )


def _rows(rows: Any) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _side(name: str, side: Mapping[str, int]) -> tuple[str, ...]:
    counts = (side["patients"], side["slices"], side["fractures"])
    return (name, *(f"{count:,}" for count in counts))


def _figure(metrics: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = metrics[name]
    return METRICS[name], f"{found['value']:.3f}", f"{found['low']:.3f}–{found['high']:.3f}"


def _order(item: tuple[str, Any]) -> tuple[bool, float]:
    """Return the sort key of a width band such as "1–1.5 mm"; totals over bands come last."""
    low = item[0].split("–")[0]
    return (True, 0.0) if low == item[0] else (False, float(low))


def _width(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    values = (found["auroc"], found["sensitivity"])
    shown = (f"{one['value']:.2f} ({one['low']:.2f}–{one['high']:.2f})" for one in values)
    return (name, str(found["fractures"]), *shown)


if __name__ == "__main__":
    CARD = json.loads((ROOT / "models" / "best.json").read_text(encoding="utf-8"))
    PAGE.write_text(make_page(CARD), encoding="utf-8")
