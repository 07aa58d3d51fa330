"""The report's answers to CLAIM, the Checklist for Artificial Intelligence in Medical Imaging.

The items and their answers are in `claim.toml`. This module fills in the facts of the card.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cspine.core.text import count_noun, count_slices
from cspine.evaluate.report.card_text import (
    RSNA,
    card_facts,
    get,
    layout,
    seen_words,
    site_of,
)

CLAIM = Path(__file__).with_name("claim.toml")


@dataclass(frozen=True)
class ClaimItem:
    """One item: its number, the section of the checklist, the question and the answer."""

    number: int
    section: str
    question: str
    answer: str


def answer_claim(card: Mapping[str, Any]) -> list[ClaimItem]:
    """Return all 44 items, answered for the model of this card."""
    claim = tomllib.loads(CLAIM.read_text(encoding="utf-8"))
    facts, site = card_facts(card), site_of(card)
    if site is None:
        data, pages = layout(card), _training_pages(card)
    else:
        data, pages = site["layout"], ["site"]
        facts |= _site_facts(site)
    answers = claim["data"]["any"] | claim["data"].get(data, {})
    for page in pages:
        answers |= claim["page"][page]
    facts |= {name: answer.format(**facts) for name, answer in answers.items()}
    return [
        ClaimItem(number, item["section"], item["question"], _sentence(item["answer"], facts))
        for number, item in enumerate(claim["items"], start=1)
    ]


def _sentence(answer: str, facts: Mapping[str, str]) -> str:
    """Return the answer with its facts filled in and a capital first letter."""
    text = answer.format(**facts)
    return text[:1].upper() + text[1:]


def _training_pages(card: Mapping[str, Any]) -> list[str]:
    """Return the `page` tables for the report of a training; a later one overrides an earlier."""
    pages = ["training"]
    if get(card, "data.split") == "published":
        pages.append("training_on_published")
    elif layout(card) == RSNA:
        pages.append("training_on_rsna")
    if "test" in {**get(card, "data.sides", {}), **get(card, "metrics", {})}:
        pages.append("training_with_test")
    return pages


def _site_facts(site: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts of a site's own images, which are added to those of the card."""
    seen = seen_words(site)
    return {
        "name": site["name"],
        "scored": count_slices(site["slices"], site["patients"]),
        "copies": count_noun(site["copies_left_out"], "file"),
        "only_folder": f". Only the folder {site['split']} is used" if site["split"] else "",
        "without_vertebra": str(site["without_vertebra"]),
        "seen": f" {seen}" if seen else "",
    }
