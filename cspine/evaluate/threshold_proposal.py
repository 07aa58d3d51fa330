"""A site's figures at the model's threshold and at one chosen anew, in words for the page.

It takes the summary of `external_validation.py` and computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cspine.evaluate.report.card_text import seen_words
from cspine.evaluate.report.tables import figure


def describe_proposal(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return `text`, and `facts` as name → words."""
    proposed = summary["proposed_threshold"]["value"]
    text = (
        f"{seen_words(summary)} The model's threshold is {summary['threshold']:.3f}. "
        f"Chosen anew on these images by the same rule it would be {proposed:.3f}. Figures at a "
        "threshold that was chosen on the same images flatter it; confirm it on others before "
        "using it."
    )
    facts = {
        "Slices": f"{summary['slices']}, of which {summary['fractures']} fractured",
        "Copies of them, left out": str(summary["copies_left_out"]),
        "Patients": str(summary["patients"]),
        "Without a vertebra": str(summary["without_vertebra"]),
        "In distribution": str(summary["in_distribution"]),
    }
    before, after = summary["metrics"], summary["metrics_at_proposed"]
    for name, words in (("recall", "Sensitivity"), ("specificity", "Specificity")):
        facts[f"{words}, model's threshold"] = str(figure(before[name]))
        facts[f"{words}, proposed"] = str(figure(after[name]))
    return {"text": text.strip(), "facts": facts}
