"""Report of an audit: its fields, and methods that turn it into JSON and sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cspine.core.labels import CLASS_NAMES
from cspine.core.text import count_noun
from cspine.data.audit.shortcuts import Shortcut
from cspine.data.layouts.rsna import describe_unboxed

_EXAMPLES = 5


@dataclass(frozen=True)
class Leak:
    """A slice that is on several published sides; `sides` is side → paths of the slice there."""

    slice_id: str
    sides: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class AuditReport:
    """What names and pixels of a data set show.

    Fields:
        source, layout: what was audited, and its layout (`names` for a list of names).
        files, slices, volumes: how many there are. A confidence interval may only count `volumes`,
            because only volumes are independent.
        classes: class name → (files, slices).
        unboxed_studies: how many fractured studies have no labelled slice, because they have no
            bounding boxes.
        unreadable: path → reason.
        unused: lines about files that were left out, the decoder's warnings, and blank images.
        exact_duplicates: groups of files with equal bytes.
        near_duplicates: groups of files that show one slice, not all with equal bytes.
        shared_slices: groups of files that show one slice of several known patients.
        split_leaks: slices on several published sides.
        volume_leaks: how many volumes are on several published sides.
        label_conflicts: groups of files of one slice in both classes.
        shortcuts: feature → its score, None if it could not be measured.
        kinds: kind (format, size and mode) → how many files have it.
        odd_files: the files of a rare kind.
        groups: path → (slice id, volume id).
        compared_pixels: whether pixels were compared; if not, names or a table were trusted.
    """

    source: str
    layout: str
    files: int
    slices: int
    volumes: int
    classes: Mapping[str, tuple[int, int]]
    unboxed_studies: int = 0
    unreadable: Mapping[str, str] = field(default_factory=dict)
    unused: Sequence[str] = ()
    exact_duplicates: Sequence[tuple[str, ...]] = ()
    near_duplicates: Sequence[tuple[str, ...]] = ()
    shared_slices: Sequence[tuple[str, ...]] = ()
    split_leaks: Sequence[Leak] = ()
    volume_leaks: int = 0
    label_conflicts: Sequence[tuple[str, ...]] = ()
    shortcuts: Mapping[str, Shortcut | None] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)
    odd_files: Sequence[str] = ()
    groups: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    compared_pixels: bool = False

    @property
    def shortcut_auroc(self) -> float | None:
        """The highest AUROC of the shortcuts that could be measured."""
        return max((s.auroc for s in self.shortcuts.values() if s), default=None)

    @property
    def confounds(self) -> list[str]:
        """The features that predict the class although they show no fracture."""
        return [name for name, score in self.shortcuts.items() if score and score.is_confound]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, under the documented keys."""
        return {
            "source": self.source,
            "layout": self.layout,
            "files": self.files,
            "slices": self.slices,
            "volumes": self.volumes,
            "classes": {k: {"files": f, "slices": s} for k, (f, s) in self.classes.items()},
            "unboxed_studies": self.unboxed_studies,
            "unreadable": dict(self.unreadable),
            "unused": list(self.unused),
            "exact_duplicates": [list(group) for group in self.exact_duplicates],
            "near_duplicates": [list(group) for group in self.near_duplicates],
            "shared_slices": [list(group) for group in self.shared_slices],
            "split_leaks": [
                {"slice": leak.slice_id, "sides": {k: list(v) for k, v in leak.sides.items()}}
                for leak in self.split_leaks
            ],
            "volume_leaks": self.volume_leaks,
            "label_conflicts": [list(group) for group in self.label_conflicts],
            "shortcut_auroc": self.shortcut_auroc,
            "shortcuts": {
                name: score and asdict(score) | {"is_confound": score.is_confound}
                for name, score in self.shortcuts.items()
            },
            "confounds": self.confounds,
            "kinds": dict(self.kinds),
            "odd_files": list(self.odd_files),
            "compared_pixels": self.compared_pixels,
            "groups": {p: {"slice": s, "volume": v} for p, (s, v) in self.groups.items()},
        }

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    def lines(self) -> list[str]:
        """Return the three lines that every training run prints."""
        balance = ", ".join(f"{slices} {name}" for name, (_, slices) in self.classes.items())
        return [
            f"Audit: {self.files} files are {count_noun(self.slices, 'distinct slice')} "
            f"({balance}) of {count_noun(self.volumes, 'volume')}; "
            "only the volumes are independent. "
            f"{describe_unboxed(self.unboxed_studies)}".rstrip(),
            f"Faults: {count_noun(len(self.split_leaks), 'slice')} and "
            f"{count_noun(self.volume_leaks, 'volume')} on two sides of the published split, "
            f"{count_noun(len(self.label_conflicts), 'slice')} in both classes, "
            f"{self._shared_text()}"
            f"{count_noun(len(self.unreadable), 'unreadable file')}.",
            self._shortcut_line(),
        ]

    def details(self) -> list[str]:
        """Return further lines: examples of each finding, and the score of each shortcut."""
        lines = [*self.unused]
        lines += [f"Unreadable: {path}: {reason}" for path, reason in self.unreadable.items()]
        lines += _name_groups("Equal bytes", self.exact_duplicates)
        lines += _name_groups("Same slice", self.near_duplicates)
        lines += _name_groups("In both classes", self.label_conflicts)
        lines += _name_groups("Shared by several patients", self.shared_slices)
        lines += [
            f"On two sides: {leak.slice_id}: "
            + "; ".join(f"{side}: {paths[0]} ({len(paths)})" for side, paths in leak.sides.items())
            for leak in self.split_leaks[:_EXAMPLES]
        ]
        for name, score in self.shortcuts.items():
            said = f"{score.auroc:.3f} ({score.low:.3f}–{score.high:.3f})" if score else "unknown"
            lines.append(f"Shortcut by {name}: AUROC {said}")
        if len(self.kinds) > 1:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items())
            lines.append(f"Kinds of file: {kinds}")
        return lines

    def _shared_text(self) -> str:
        count = count_noun(len(self.shared_slices), "slice")
        return f"{count} shared by several patients, " if self.shared_slices else ""

    def _shortcut_line(self) -> str:
        best = self.shortcut_auroc
        if best is None:
            return (
                "Shortcuts: not measured, because this needs images of both classes from at least "
                "two volumes."
            )
        if not self.confounds:
            return (
                "Shortcuts: none found (highest AUROC of a feature that shows no fracture: "
                f"{best:.2f})."
            )
        named = " and ".join(self.confounds)
        verb = "separates" if len(self.confounds) == 1 else "separate"
        return (
            f"Shortcuts: {named} alone {verb} {CLASS_NAMES[1]} from {CLASS_NAMES[0]} (AUROC "
            f"{best:.2f} on held-out volumes): a model can score high without seeing a fracture."
        )


def _name_groups(title: str, groups: Sequence[tuple[str, ...]]) -> list[str]:
    lines = []
    for group in groups[:_EXAMPLES]:
        more = f" and {len(group) - 4} more" if len(group) > 4 else ""
        lines.append(f"{title}: {', '.join(group[:4])}{more}")
    if len(groups) > _EXAMPLES:
        lines.append(f"{title}: {len(groups) - _EXAMPLES} more groups")
    return lines
