"""The rows of text that show the audit of a data set, made from its JSON values.

Each row shows one key of the audit, in the order of `_ROWS`. A key that an older audit lacks gives
no row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cspine.core.text import count_noun
from cspine.evaluate.report.tables import NONE, figure

# The heading of the row, its number, and examples.
AuditRow = tuple[str, str, list[str]]
# The most paths shown per example, and the most examples per finding.
PATHS, EXAMPLES = 3, 5


def audit_table(audit: Mapping[str, Any]) -> list[AuditRow]:
    """Return (heading, number, up to five examples) for each finding in an audit's JSON values."""
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
    """Return one row for all findings of a kind: their number and some examples."""
    examples = value.items() if isinstance(value, Mapping) else value
    return [(words, str(len(value)), [*map(_example, examples)][:EXAMPLES])]


def _classes(words: str, value: Mapping[str, Mapping[str, int]]) -> list[AuditRow]:
    """Return one row per class: the number of its distinct slices and of their files."""
    return [
        (f"{words} {name}", str(counts["slices"]), [f"in {count_noun(counts['files'], 'file')}"])
        for name, counts in value.items()
    ]


def _shortcuts(words: str, value: Mapping[str, Mapping[str, Any] | None]) -> list[AuditRow]:
    """Return one row per feature: its AUROC with the interval, and whether it is a confound."""
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
    """Return one row for all kinds of file, the most common first."""
    counts = [f"{kind}: {count_noun(count, 'file')}" for kind, count in value.items()]
    return [(words, str(len(value)), counts[:EXAMPLES])]


def _example(item: Any) -> str:
    """Return `item` as words: a name, a group of paths, a pair (path, reason) or a leak."""
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
    ("volumes", "volumes, which the intervals treat as independent", _count),
    (
        "unboxed_studies",
        "fractured studies without bounding boxes, known only by their study label",
        _count,
    ),
    ("unreadable", "unreadable files", _list),
    ("kinds", "kinds of file", _kinds),
    ("odd_files", "files of a rare kind", _list),
    ("exact_duplicates", "groups of files with identical bytes", _list),
    ("near_duplicates", "groups of files that show the same slice", _list),
    ("split_leaks", "slices on more than one side of the split", _list),
    ("volume_leaks", "volumes on more than one side of the split", _count),
    ("label_conflicts", "slices in both classes", _list),
    ("shortcut_auroc", "shortcut score: highest AUROC without seeing a fracture", _score),
    ("shortcuts", "AUROC from only the", _shortcuts),
    ("confounds", "confounds: features that alone separate the classes", _list),
)
