"""Leaderboards: from a store to tables. `BOARDS` has all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from normbench.boards.accuracy import accuracy
from normbench.boards.aggregate import Tasks, aggregate, gather_tasks
from normbench.boards.grid import gather
from normbench.boards.sessions import gather_sessions
from normbench.boards.stability import stability
from normbench.boards.throughput import throughput
from normbench.store import Store
from normbench.suites import BOARDS as NAMES
from normbench.tables import Table

__all__ = ["BOARDS", "NAMES", "Board", "tables"]


@dataclass(frozen=True)
class Board:
    """A leaderboard. `make` returns its table from what it `needs`, a `Grid`, `Sessions` or `Tasks`, or None."""

    name: str
    needs: Literal["grids", "sessions", "tasks"]
    make: Callable[[Any], Table | None]


#: In the order of their `NAMES`, which options, help texts and docs have.
BOARDS = (
    Board("accuracy", "grids", accuracy),
    Board("stability", "grids", stability),
    Board("throughput", "sessions", throughput),
    Board("aggregate", "tasks", aggregate),
)


def tables(
    store: Store,
    boards: Sequence[str] | None = None,
    only: frozenset[str] | None = None,
    baseline: str | None = None,
) -> list[Table]:
    """Return the tables of a store: the boards of each task and condition, then those over several tasks.

    `boards` are by name, and in order; left out, those that the suite of a table's latest run asks for. `only` leaves
    out all but these tasks and conditions, by `Cell.table_id`; `baseline` is the label of the norm that others are
    compared to (left out: the runs' own).
    """
    known = {board.name: board for board in BOARDS}
    needs = {known[name].needs for name in boards or NAMES}
    grids = {grid.table_id: grid for grid in gather(store, only, baseline)} if needs & {"grids", "tasks"} else {}
    sessions = gather_sessions(store, only, baseline) if needs & {"sessions", "tasks"} else {}
    given: dict[str, Mapping[str, Any]] = {
        "grids": grids,
        "sessions": sessions,
        "tasks": gather_tasks(grids.values(), sessions),
    }
    keys = dict.fromkeys(key for of_kind in given.values() for key in of_kind)
    asked = dict.fromkeys(keys, boards) if boards else _of_suites(store, given["tasks"])
    found = ((known[name], key) for key in keys for name in asked.get(key, NAMES) if name in known)
    made = (board.make(given[board.needs][key]) for board, key in found if key in given[board.needs])
    return [table for table in made if table is not None]


def _of_suites(store: Store, tasks: Mapping[str, Tasks]) -> dict[str, Sequence[str]]:
    """Return the boards that the suite of each table's latest run asks for, by the keys of tables.

    Of tasks that no run has together no suite says whether they are shown together: then they are.
    """
    latest = {cell.table_id: run for run in store.runs() for cell in run.cells}
    asked = {key: run.suite.get("boards") or NAMES for key, run in latest.items()}
    for key, each in tasks.items():
        first, *others = [grid.table_id for grid in each.grids]
        asked[key] = asked[first] if all(latest[other] is latest[first] for other in others) else NAMES
    return asked
