"""docs/results.md: what its command makes of the records in results/, and nothing typed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from normbench.boards.grid import gather
from normbench.store import Store
from normbench.suites import read

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_its_command_writes(monkeypatch):
    """The page is that of the records that are stored now."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    spec = importlib.util.spec_from_file_location("results_of_the_docs", ROOT / "benchmarks" / "results.py")
    command = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, command)
    spec.loader.exec_module(command)

    written = command.page()

    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == written


@pytest.mark.parametrize("name", ["mnist-lr", "fashion-mlp"])
def test_a_suite_was_run_in_full(name):
    """The records hold every trial that the suite has now, and a throughput session."""
    suite = read(ROOT / "suites" / "normbench_suites" / f"{name}.toml")
    store = Store(ROOT / "results" / f"{name}.json")

    cells = store.runs()[-1].cells
    stored = {record.key for record in store.trials()}

    assert suite.norms == [cell.label for cell in cells]
    assert all(set(suite.seed_list()) <= set(cell.seeds) for cell in cells)
    assert {trial.key for cell in cells for trial in cell.trials()} <= stored
    assert not any(grid.same_seeds for grid in gather(store))
    assert 1 <= len(store.sessions())
