"""docs/notebook.ipynb runs as it stands, and what is stored of it is what its cells give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def given(book: Any) -> list[list[set[str]]]:
    """Return the forms of what each cell gives: text, HTML, a picture."""
    return [[set(output.get("data", ())) for output in cell.get("outputs", [])] for cell in book.cells]


def test_the_notebook_runs(command, tmp_path):
    """Every cell runs in an empty folder, and gives what is stored, in form; a change of the API shows here."""
    stored = nbformat.read(NOTEBOOK, 4)

    book = command("notebook").executed(NOTEBOOK, tmp_path)

    assert given(stored) == given(book)
    assert [cell.source for cell in stored.cells] == [cell.source for cell in book.cells]


def test_the_notebook_holds_nothing_of_a_machine(command):
    """What is stored was made by the command: cells in order, no folder of a machine's, no times, no metadata."""
    book = nbformat.read(NOTEBOOK, 4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    text = re.sub(r"\"image/png\": \"[^\"]*\"", "", NOTEBOOK.read_text(encoding="utf-8"))

    assert command("notebook").METADATA == book.metadata
    assert list(range(1, len(code) + 1)) == [cell.execution_count for cell in code]
    assert [{}] * len(book.cells) == [cell.metadata for cell in book.cells]
    assert [] == re.findall(r"[\"\' (](/(?:tmp|home|root|work|Users)\b[^\"\' ]*)", text)
    assert [] == [output for cell in code for output in cell.outputs if output.output_type in ("stream", "error")]
