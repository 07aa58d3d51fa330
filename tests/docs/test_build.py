"""`make docs`: no warning, and pages that need nothing from the network."""

import re
import subprocess
import sys

import pytest

from support.markdown import DOCS, ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("html")
    options = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(folder / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, "docs", str(folder / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_the_makefile_builds_them_the_same_way():
    recipe = ".venv/bin/python -m sphinx -W --keep-going -b html docs build/docs"
    assert f"docs: env\n\t{recipe}\n" in (ROOT / "Makefile").read_text()


def test_every_page_is_built(built):
    assert [page.name for page in DOCS if not (built / f"{page.stem}.html").is_file()] == []


def test_no_page_loads_anything_from_the_network(built):
    loads = re.compile(r"""<(?:script|img|iframe|source)[^>]*\bsrc=["'](?:https?:)?//""")
    links = re.compile(r"""<link[^>]*\bhref=["'](?:https?:)?//""")
    for page in built.rglob("*.html"):
        text = page.read_text()
        assert not loads.search(text) and not links.search(text), page.name
    for sheet in built.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", sheet.read_text()), sheet
