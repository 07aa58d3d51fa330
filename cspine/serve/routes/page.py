"""GET /: the web page and its files, with a policy that lets the page load nothing else."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response

blueprint = Blueprint("page", __name__)

WEB = Path(__file__).parent / "web"
# `data:` and `blob:` are for the pictures of answers and previews.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@blueprint.get("/")
def show_page() -> Response:
    """Answer with the page."""
    return _send("index.html")


# The allowed names are listed, so that no path leads out of the folder.
@blueprint.get("/page/<any('page.css', 'page.js', 'icon.svg'):name>")
def show_part(name: str) -> Response:
    """Answer with one of the page's own files."""
    return _send(name)


def _send(name: str) -> Response:
    response = Response((WEB / name).read_bytes(), content_type=_TYPES[name])
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    # The browser checks for a new version each time, so that a new page never runs with an old
    # script.
    response.headers["Cache-Control"] = "no-cache"
    return response
