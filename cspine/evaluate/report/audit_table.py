"""The audit of a data set as rows of plain words, from its JSON values.

The rows are chosen by the audit's keys. A key that an older audit lacks has no row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cspine.core.text import count_noun
from cspine.evaluate.report.tables import NONE, figure

# Words for the row, its number, and examples.
AuditRow = tuple[str, str, list[str]]
# Of the paths of one example, and of the examples of one finding.
PATHS, EXAMPLES = 3, 5


def audit_table(audit: Mapping[str, Any]) -> list[AuditRow]:
    """Return (words, number, up to five examples) for each finding of an audit as JSON values."""
    rows: list[AuditRow] = []
    for name, words, write in _ROWS:
        value = audit.get(name)
        if value is not None:
            rows += write(words, value)
    return rows


def _count(words: str, value: int) -> list[AuditRow]:
    return [(words, str(value), [])]


def _score(words: str, value: float) -> list[AuditRow]:
    return [(words, f"{value:.3f}", [])]


def _list(words: str, value: Mapping[str, Any] | Sequence[Any]) -> list[AuditRow]:
    """One row for all findings of a kind: how many, and some of them."""
    examples = value.items() if isinstance(value, Mapping) else value
    return [(words, str(len(value)), [*map(_example, examples)][:EXAMPLES])]


def _classes(words: str, value: Mapping[str, Mapping[str, int]]) -> list[AuditRow]:
    """One row per class: its distinct slices, and the number of their files."""
    return [
        (f"{words} {name}", str(counts["slices"]), [f"in {count_noun(counts['files'], 'file')}"])
        for name, counts in value.items()
    ]


def _shortcuts(words: str, value: Mapping[str, Mapping[str, Any] | None]) -> list[AuditRow]:
    """One row per feature: its AUROC with its interval, and what that says."""
    rows = []
    for name, score in value.items():
        if score is None:
            rows.append((f"{words} {name}", NONE, ["not measured"]))
            continue
        shown = figure({**score, "value": score["auroc"]})
        verdict = "a confound" if score["is_confound"] else "no confound shown"
        rows.append((f"{words} {name}", shown.value, [f"{shown.interval}, {verdict}"]))
    return rows


def _kinds(words: str, value: Mapping[str, int]) -> list[AuditRow]:
    """One row for all kinds of file, the most common first."""
    counts = [f"{kind}: {count_noun(count, 'file')}" for kind, count in value.items()]
    return [(words, str(len(value)), counts[:EXAMPLES])]


def _example(item: Any) -> str:
    """Return a name, a group of paths, a (path, reason), or a leak as words."""
    if isinstance(item, str):
        return item
    if isinstance(item, Mapping):
        sides = [f"{side}: {_paths(paths)}" for side, paths in item["sides"].items()]
        return f"{item['slice']}: " + "; ".join(sides)
    return _paths(item)


def _paths(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - PATHS} more" if len(paths) > PATHS else ""
    return ", ".join(paths[:PATHS]) + more


_ROWS: tuple[tuple[str, str, Callable[[str, Any], list[AuditRow]]], ...] = (
    ("files", "files", _count),
    ("slices", "distinct slices", _count),
    ("classes", "distinct slices of class", _classes),
    ("volumes", "volumes, which is what an interval may count", _count),
    (
        "unboxed_studies",
        "fractured studies known by their study label alone, without boxes",
        _count,
    ),
    ("unreadable", "unreadable files", _list),
    ("kinds", "kinds of file", _kinds),
    ("odd_files", "files of a rare kind", _list),
    ("exact_duplicates", "groups of files with equal bytes", _list),
    ("near_duplicates", "groups of files that show one slice", _list),
    ("split_leaks", "slices on two sides of a split", _list),
    ("volume_leaks", "volumes on two sides of a split", _count),
    ("label_conflicts", "slices in both classes", _list),
    ("shortcut_auroc", "shortcut score: highest AUROC without seeing a fracture", _score),
    ("shortcuts", "AUROC from nothing but the", _shortcuts),
    ("confounds", "confounds: what alone tells the classes apart", _list),
)
