"""No figure is reported on data on which anything behind it was tuned."""

import re

from support.markdown import ROOT, read_table

BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text()
SOURCES = read_table(BENCHMARKS, "command", "figure", "reported on", "tuned on")
FIGURES = read_table((ROOT / "README.md").read_text(), "figure", "measured on", "command")


def sources(cell):
    return {name.strip() for name in cell.split(";")} - {"none"}


def test_no_figure_is_reported_on_a_source_that_it_was_tuned_on():
    assert all(sources(row["reported on"]) for row in SOURCES)
    shared = [row for row in SOURCES if sources(row["reported on"]) & sources(row["tuned on"])]
    assert shared == []


def test_every_figure_of_the_readme_has_its_sources_and_its_result():
    assert len(FIGURES) == 5
    known = {row["command"] for row in SOURCES}
    assert {row["command"] for row in FIGURES} <= known
    for row in FIGURES:
        command = row["command"].strip("`")
        assert re.search(rf"\| `{re.escape(command)}[^|]*\|[^|]*\| \[[\w]+\.json\]", BENCHMARKS)


def test_every_result_file_that_is_linked_exists():
    links = re.findall(r"\]\(\.\./([\w/]+\.json)\)", BENCHMARKS)
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []
