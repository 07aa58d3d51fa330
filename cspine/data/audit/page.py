"""The audit as one self-contained HTML page with thumbnails of what it found.

No script, no outside asset; every name is escaped. Knows nothing of how things were found.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence

from PIL import Image

from cspine.core.errors import CspineError
from cspine.core.labels import MEDICAL_NOTICE
from cspine.data.audit.report import AuditReport
from cspine.imaging.decode import decode_image

_THUMBNAIL_PX = 112
# Groups shown under a heading, and files of each.
_GROUPS, _FILES = 6, 5

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --warn: #b3541e; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.tile { flex: 1 1 8rem; border: 1px solid var(--line); border-radius: .6rem; padding: .7rem 1rem; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.2; }
.say { border-left: 4px solid var(--warn); padding: .2rem 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.group { display: flex; flex-wrap: wrap; gap: .6rem; padding: .6rem; margin: .5rem 0;
  background: var(--soft); border-radius: .6rem; }
figure { margin: 0; width: 112px; }
figure img { width: 112px; height: 112px; border-radius: .3rem; }
figcaption { font-size: .7rem; line-height: 1.25; overflow-wrap: anywhere; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: .6rem; opacity: .8; }
"""


def render_page(report: AuditReport, read: Callable[[str], bytes] | None = None) -> str:
    """Return the page as HTML text.

    Args:
        read: returns the bytes of a path of the data set, for thumbnails; None leaves them out.
    """
    said = "".join(f"<p>{html.escape(line)}</p>" for line in report.lines())
    leaks = [
        tuple(path for paths in leak.sides.values() for path in paths[:2])
        for leak in report.split_leaks
    ]
    sections = [
        _shortcut_table(report),
        _show_groups("One slice on two sides of the published split", leaks, read),
        _show_groups("One slice in both classes", report.label_conflicts, read),
        _show_groups("Files with equal bytes", report.exact_duplicates, read),
        _show_groups("Files that show one slice", report.near_duplicates, read),
        _list("Unreadable files", [f"{p}: {reason}" for p, reason in report.unreadable.items()]),
        _list("Kinds of file", [f"{count} × {kind}" for kind, count in report.kinds.items()]),
        _list("Files of a rare kind", list(report.odd_files)),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Data audit</title><style>{_STYLE}</style>"
        f"<h1>Data audit</h1><p>{html.escape(report.source)}, {report.layout} layout.</p>"
        f'{_tiles(report)}<div class="say">{said}</div>{"".join(sections)}'
        f"<footer>{html.escape(MEDICAL_NOTICE)}</footer></html>"
    )


def _tiles(report: AuditReport) -> str:
    tiles = [
        (report.files, "files"),
        (report.slices, "distinct slices"),
        (report.volumes, "volumes"),
        (len(report.split_leaks), "slices on two sides"),
        (len(report.label_conflicts), "slices in both classes"),
        (len(report.unreadable), "unreadable files"),
    ]
    shown = "".join(f'<div class="tile"><b>{count}</b>{name}</div>' for count, name in tiles)
    return f'<div class="tiles">{shown}</div>'


def _shortcut_table(report: AuditReport) -> str:
    if not report.shortcuts:
        return ""
    rows = []
    for name, score in report.shortcuts.items():
        cells = "<td class=n>–</td><td>not measured</td>"
        if score is not None:
            verdict = "a confound" if score.is_confound else "no confound shown"
            interval = f"{score.auroc:.3f} ({score.low:.3f}–{score.high:.3f})"
            cells = f"<td class=n>{interval}</td><td>{verdict}</td>"
        rows.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    return (
        "<h2>What a model could learn without seeing a fracture</h2>"
        "<table><tr><th>Feature<th class=n>AUROC (95 % interval)<th>Verdict</tr>"
        f"{''.join(rows)}</table>"
    )


def _show_groups(
    title: str, groups: Sequence[tuple[str, ...]], read: Callable[[str], bytes] | None
) -> str:
    if not groups:
        return ""
    shown = []
    for group in groups[:_GROUPS]:
        figures = "".join(_figure(path, read) for path in group[:_FILES])
        more = f"<p>and {len(group) - _FILES} more</p>" if len(group) > _FILES else ""
        shown.append(f'<div class="group">{figures}{more}</div>')
    rest = f"<p>{len(groups) - _GROUPS} more groups.</p>" if len(groups) > _GROUPS else ""
    return f"<h2>{title} ({len(groups)})</h2>{''.join(shown)}{rest}"


def _figure(path: str, read: Callable[[str], bytes] | None) -> str:
    picture = ""
    if read is not None:
        encoded = base64.b64encode(_thumbnail(read(path))).decode()
        # No text in its place: the caption has the name.
        picture = f'<img alt="" src="data:image/png;base64,{encoded}">'
    return f"<figure>{picture}<figcaption>{html.escape(path)}</figcaption></figure>"


def _thumbnail(data: bytes) -> bytes:
    try:
        image = Image.fromarray(decode_image(data).grey)
    except CspineError:  # the file changed since the audit read it
        image = Image.new("L", (1, 1))
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    rows = "".join(f"<li>{html.escape(item)}</li>" for item in items[:50])
    rest = f"<p>{len(items) - 50} more.</p>" if len(items) > 50 else ""
    return f"<h2>{title} ({len(items)})</h2><ul>{rows}</ul>{rest}"
