"""Run docs/notebook.ipynb, and store what its cells give: python benchmarks/notebook.py."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "notebook.ipynb"
#: What is the same wherever the notebook is run.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(notebook: Path, folder: Path) -> Any:
    """Return a notebook whose cells were run in a folder, without what depends on the machine or the moment."""
    book = nbformat.read(notebook, 4)
    NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    book.metadata = METADATA
    for cell in book.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            # A progress bar, with its times.
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return book


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        run = executed(NOTEBOOK, Path(made))
        text = nbformat.writes(run)
        if made in text:
            sys.exit(f"{NOTEBOOK}: an output names {made}")
    NOTEBOOK.write_text(text + "\n", encoding="utf-8")
