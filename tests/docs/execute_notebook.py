"""Executes the tutorial's notebook in an empty folder. `python -m tests.docs.execute_notebook` stores its outputs."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "tutorial" / "notebook.ipynb"
TIMEOUT_SECONDS = 600


def executed(folder: Path) -> Any:
    """Return the notebook with the outputs of a run in a folder.

    Raises:
        CellExecutionError: A cell fails.
    """
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # The kernel is a process of its own, which takes over this environment.
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ.pop("ADAPTERTUNE_OUTPUT", None)
    client = NotebookClient(notebook, timeout=TIMEOUT_SECONDS, resources={"metadata": {"path": str(folder)}})
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this run
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _is_shown(output)]
    return notebook


def _is_shown(output: Any) -> bool:
    """Whether a reader sees it: not messages, nor the empty table that Ray Tune leaves in a notebook."""
    return output.get("name") != "stderr" and output.get("data", {}).get("text/html") != ""


def shown(notebook: Any) -> list[list[str]]:
    """Return what each cell shows, with `#` for every number: another processor rounds otherwise."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[_masked(output) for output in cell.outputs] for cell in cells]


def _masked(output: Any) -> str:
    text = output.get("text") or output["data"].get("text/plain", "")
    without_numbers = re.sub(r"\d+(\.\d+)?", "#", text)
    kind = ", ".join(sorted(output.get("data", {"text": text})))
    return f"{kind}: {' '.join(without_numbers.split())}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        nbformat.write(executed(Path(empty)), NOTEBOOK)
