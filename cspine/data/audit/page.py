"""Renderer of an audit as one self-contained HTML page, with thumbnails of the files it names.

The page has no script and loads nothing from elsewhere; every name in it is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from cspine.core.errors import CspineError
from cspine.core.labels import MEDICAL_NOTICE
from cspine.data.audit.report import AuditReport
from cspine.imaging.decode import decode_image

_THUMBNAIL_PX = 112
# The most groups shown under a heading, and the most files shown of each group.
_GROUPS, _FILES = 6, 5


def render_page(report: AuditReport, read: Callable[[str], bytes] | None = None) -> str:
    """Return the page as HTML text.

    Args:
        report: the findings.
        read: returns the bytes of a file of the data set; None leaves out the thumbnails.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        # A misspelt name in the template fails instead of leaving a gap in the page.
        undefined=StrictUndefined,
    )
    leaked = [list(leak.sides.values()) for leak in report.split_leaks]
    return environment.get_template("page.html").render(
        report=report,
        leaks=[[path for paths in sides for path in paths[:2]] for sides in leaked],
        unreadable=[f"{path}: {reason}" for path, reason in report.unreadable.items()],
        kinds=[f"{count} × {kind}" for kind, count in report.kinds.items()],
        thumbnail=None if read is None else lambda path: _encode_thumbnail(read(path)),
        max_groups=_GROUPS,
        max_files=_FILES,
        notice=MEDICAL_NOTICE,
    )


def _encode_thumbnail(data: bytes) -> str:
    """Return the image as a PNG in base64, with at most 112 pixels per side."""
    try:
        image = Image.fromarray(decode_image(data).grey)
    except CspineError:  # the file changed since the audit read it
        image = Image.new("L", (1, 1))
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
