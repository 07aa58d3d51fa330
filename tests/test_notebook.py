"""The notebook runs top to bottom, and is stored without outputs."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = nbformat.read(ROOT / "notebook.ipynb", as_version=4)


def test_it_is_stored_without_outputs():
    cells = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def text_of(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_it_runs_and_shows_the_leak(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("NOTEBOOK_BUILD", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    client = NotebookClient(
        NOTEBOOK.copy(), timeout=600, resources={"metadata": {"path": str(ROOT)}}
    )
    ran = client.execute()
    answer = next(cell for cell in ran.cells if "response.json()" in cell.source).outputs[0]
    assert "'prediction':" in answer["data"]["text/plain"]
    lines = text_of(next(cell for cell in ran.cells if "split by file" in cell.source)).splitlines()
    by_file, by_patient = (float(line.split(":")[1]) for line in lines[1:])
    assert by_file > 0.95
    assert by_patient < 0.7
