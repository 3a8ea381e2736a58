"""The records in results/, of which docs/results.md is made: those of whole suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from normbench.boards.grid import gather
from normbench.spelling import choice
from normbench.store import Store
from normbench.suites import read

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(file.stem for file in (ROOT / "results").glob("*.json")))
def test_a_suite_was_run_in_full(name):
    """The records hold every trial that the suite has now, and a throughput session."""
    suite = read(ROOT / "suites" / "normbench_suites" / f"{name}.toml")
    store = Store(ROOT / "results" / f"{name}.json")

    cells = store.runs()[-1].cells
    stored = {record.key for record in store.trials()}

    labels = [choice(norm, "").shown for norm in suite.norms]
    assert labels == list(dict.fromkeys(cell.label for cell in cells))
    assert all(set(suite.seed_list()) <= set(cell.seeds) for cell in cells)
    assert {trial.key for cell in cells for trial in cell.trials()} <= stored
    assert not any(grid.same_seeds for grid in gather(store))
    assert 1 <= len(store.sessions())
