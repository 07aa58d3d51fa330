"""The README's size, generated pages, links, pictures and project files."""

import json
import re
import tomllib
from dataclasses import fields

import pytest
import yaml

import cspine
from cspine.core.cli_flags import FLAG_GROUPS
from cspine.core.serve_settings import ServeSettings
from cspine.core.train_config import TrainConfig
from support.markdown import PAGES, ROOT, read_blocks, without_code
from tools import configuration_page, model_card

README = ROOT / "README.md"
LINKED = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "MODEL_CARD.md"]
PICTURES = sorted((ROOT / "docs" / "images").iterdir())


def test_the_readme_is_short_and_has_pictures():
    text = README.read_text()
    assert len(text.encode()) <= 9000
    assert text.count("\n") <= 160
    assert len(re.findall("<img ", text)) >= 3
    assert "Not a medical device" in text
    first_screen = "\n".join(text.splitlines()[:20])
    assert "make demo" in first_screen and "make test" in first_screen


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_a_small_png(picture):
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n") and len(data) <= 200_000


def test_the_changelog_is_short():
    bullets = re.findall(r"^- .*(?:\n  .*)*", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert 10 < len(bullets) <= 40
    assert max(map(len, bullets)) <= 160


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_every_link_to_a_file_has_its_target(page):
    text = without_code(page.read_text())
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_section_of_the_readme_that_a_message_names_exists():
    sources = "".join(path.read_text() for path in ROOT.glob("cspine/**/*.py"))
    named = re.findall(r"README\.md#([\w-]+)", sources)
    assert named and set(named) <= anchors(README)


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def test_the_tree_of_the_architecture_page_exists():
    tree = next(b for b in read_blocks(ROOT / "docs/architecture.md") if b.language == "text")
    paths = [line.split("  ")[0] for line in tree.code.splitlines()]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    folders = {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("cspine/**/__init__.py")}
    assert folders - set(paths) == set()


def test_the_configuration_page_is_the_codes():
    text = configuration_page.PAGE.read_text()
    assert configuration_page.fill_page(text) == text
    assert text.count("| `CSPINE_") == len(fields(ServeSettings))
    assert text.count("| `--") == sum(map(len, FLAG_GROUPS.values()))
    assert "| `--batch-size` | `32` | 1 to 4096 |" in text
    shown = re.findall(r"^\| `(?:--)?([a-z][\w-]*)`", text, re.MULTILINE)
    assert {name.replace("-", "_") for name in shown} == {one.name for one in fields(TrainConfig)}


def test_the_architecture_page_names_every_package():
    pipfile = tomllib.loads((ROOT / "Pipfile").read_text())
    text = (ROOT / "docs" / "architecture.md").read_text().partition("## Dependencies")[2]
    for category in ("packages", "serve", "dev-packages"):
        missing = [name for name in pipfile[category] if not re.search(rf"\b{name}\b", text)]
        assert not missing


def test_the_model_card_is_the_shipped_models():
    card = json.loads((ROOT / "models" / "best.json").read_text())
    assert model_card.PAGE.read_text() == model_card.make_page(card)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == cspine.__version__
    assert citation["license"] == project["license"]
    assert citation["authors"] == [{"name": "the cspine authors"}]
    assert {"cff-version", "message", "title", "type"} <= citation.keys()


def test_the_workflow_runs_the_gate():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert {"run": ".ci/run"} in steps


def test_the_hooks_before_a_commit_are_local_and_exist():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    entries = [hook["entry"] for hook in hooks[0]["hooks"]]
    assert [entry.split()[0] for entry in entries] == [".venv/bin/ruff"] * 2 + [".venv/bin/mypy"]


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")))
def test_an_issue_form_can_be_read(form):
    assert {"name", "description", "body"} <= yaml.safe_load(form.read_text()).keys() or (
        form.name == "config.yml"
    )
