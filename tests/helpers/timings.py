"""Made-up sessions: a test says how fast each norm trained in each round, and looks at the throughput board."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from normbench.boards import tables
from normbench.contract import Recipe
from normbench.store import Store
from normbench.store.records import SCHEMA, SessionRecord, Timing
from normbench.tables import Table
from normbench.tables.table import TableRow

#: Ratios of nine rounds whose median is 1.1 and whose 2nd and 8th are .8 and 2.
NINE = [1.0, 0.5, 0.8, 2.0, 1.1, 0.9, 1.2, 1.3, 3.0]
#: A block of the sessions here: 20 steps of 8 samples, 10 batches of 100.
TRAINED, EVALUATED = 160, 1000


def timing(norm: str, speeds: Any = 1.0, **fields: Any) -> Timing:
    """Return a norm's rounds: how fast it trained in each, as blocks a second; it evaluates twice as fast."""
    speeds = [speeds] * 9 if isinstance(speeds, float) else list(speeds)
    given = {"norm": norm, "label": norm, "norm_print": f"{norm} print", **fields}
    if given.get("outcome", "measured") == "measured":
        given = {"train": [1 / speed for speed in speeds], "evaluation": [0.5 / speed for speed in speeds], **given}
    return Timing(**given)


def session(*norms: Timing, baseline: Any = 1.0, again: Any = None, **fields: Any) -> SessionRecord:
    """Return a session of these norms; the baseline and `again` are given by their speeds in each round."""
    base = baseline if isinstance(baseline, Timing) else timing("batchnorm", baseline)
    given = {
        "schema": SCHEMA,
        "session": "session 1",
        "started": "2024-01-01T00:00:00+00:00",
        "finished": "2024-01-01T00:01:00+00:00",
        "command": ["normbench"],
        "version": "0",
        "task": "spirals",
        "task_version": 1,
        "task_print": "task print",
        "recipe": Recipe(rate=0.1, batch_size=8, epochs=3),
        "device": "cpu",
        "environment": "environment 1",
        "rounds": len(base.train),
        "steps": 20,
        "batches": 10,
        "batch": 100,
        "stopped": "precise",
        "baseline": base,
        "again": base if again is None else timing("batchnorm", again),
        "norms": list(norms),
    }
    return SessionRecord(**{**given, **fields})


@pytest.fixture
def measured(folder) -> Callable[..., Store]:
    """Return a function that stores sessions, and gives the store."""

    def put(*records: SessionRecord) -> Store:
        with folder.store.writer() as writer:
            writer._append("environments.jsonl", {"schema": 1, "environment": "environment 1", "processor": "a CPU"})
            for record in records:
                writer.append(record)
        return folder.store

    return put


@pytest.fixture
def board(measured) -> Callable[..., Table]:
    """Return a function that stores sessions of one table, and gives its throughput board."""

    def made(*records: SessionRecord) -> Table:
        [table] = tables(measured(*records), ("throughput",))
        return table

    return made


def rows(table: Table) -> dict[str, TableRow]:
    return {row.norm: row for row in table.rows}


def note(table: Table, begins: str) -> str:
    """Return the only note that begins so."""
    [found] = [note for note in table.notes if note.startswith(begins)]
    return found
