"""The notebook is stored with the outputs of its present text; a new run gives the same kinds."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tools.run_notebook import HASH, NOTEBOOK, hash_source, is_kept, run_notebook

MAX_BYTES = 1_000_000
STORED = nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """The kind of each output: its type, or `image/png` for a picture."""
    return [
        "image/png" if "image/png" in output.get("data", {}) else output.output_type
        for output in cell.outputs
    ]


def verdicts(notebook):
    """All sentences that begin with `Verdict:`; they hold no number."""
    lines = [
        line
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "stream"
        for line in output.text.splitlines()
    ]
    return [line for line in lines if line.startswith("Verdict:")]


def test_every_stored_output_belongs_to_the_present_text():
    assert [cell.metadata[HASH] for cell in code_cells(STORED)] == [
        hash_source(cell) for cell in code_cells(STORED)
    ]


def test_it_is_stored_with_its_pictures_and_without_the_lines_of_libraries():
    outputs = [output for cell in code_cells(STORED) for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 6
    assert all(map(is_kept, outputs))
    assert Path(NOTEBOOK).stat().st_size < MAX_BYTES


def test_it_has_three_exercises():
    last = STORED.cells[-1].source
    assert last.startswith("## 7. Exercises")
    assert [line[:2] for line in last.splitlines() if line[:1].isdigit()] == ["1.", "2.", "3."]


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_new_run_has_the_same_kinds_of_output_and_the_same_verdicts(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTEBOOK_BUILD", str(tmp_path))
    ran = run_notebook()
    assert list(map(kinds, code_cells(ran))) == list(map(kinds, code_cells(STORED)))
    assert verdicts(ran) == verdicts(STORED)
    assert len(verdicts(ran)) == 2
