"""Run the notebook and store it with its pictures.

    python -m tools.run_notebook

Each code cell gets the hash of its source in its metadata, so that a test can tell outputs that
belong to an older text. The run takes a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from cspine.core.atomic_write import written_whole

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebook.ipynb"
HASH = "source_sha256"
# Of a cell that fails to finish, in seconds. The complete notebook takes less than 4 minutes.
CELL_TIMEOUT_S = 600


def hash_source(cell: Any) -> str:
    """Return the hex SHA-256 of a cell's source."""
    return hashlib.sha256(cell.source.encode()).hexdigest()


def is_kept(output: Any) -> bool:
    """Return whether an output is stored: text that a cell prints, its value, or a picture.

    Lines of libraries on stderr and their progress bars are not.
    """
    if output.output_type == "stream":
        return bool(output.name == "stdout")
    return output.output_type == "execute_result" or "image/png" in output.data


def run_notebook(path: Path = NOTEBOOK) -> Any:
    """Return the notebook at `path` with the outputs of a new run, each cell with its hash.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    # The kernel imports the package from this checkout, whatever else is installed.
    path_of_modules = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT_S, resources={"metadata": {"path": str(ROOT)}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": path_of_modules})
    for cell in notebook.cells:
        # Times of execution would differ in every run.
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.metadata[HASH] = hash_source(cell)
            cell.outputs = [output for output in cell.outputs if is_kept(output)]
    # The kernel adds the exact version of Python here.
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main() -> None:
    """Run the notebook and replace its file."""
    argparse.ArgumentParser(description="Run the notebook and store its outputs.").parse_args()
    notebook = run_notebook()
    with written_whole(NOTEBOOK) as part:
        nbformat.write(notebook, part)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
