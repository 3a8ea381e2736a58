"""Leaderboards: from a store to tables. `BOARDS` has all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from normbench.boards.accuracy import accuracy
from normbench.boards.aggregate import aggregate, gather_tasks
from normbench.boards.grid import gather
from normbench.boards.sessions import gather_sessions
from normbench.boards.stability import stability
from normbench.boards.throughput import throughput
from normbench.store import Store
from normbench.tables import Table

__all__ = ["BOARDS", "NAMES", "Board", "tables"]


@dataclass(frozen=True)
class Board:
    """A leaderboard. `make` returns its table from what it `needs`, a `Grid`, `Sessions` or `Tasks`, or None."""

    name: str
    needs: Literal["grids", "sessions", "tasks"]
    make: Callable[[Any], Table | None]


#: In the order in which they are shown. Options, help texts and docs name these.
BOARDS = (
    Board("accuracy", "grids", accuracy),
    Board("stability", "grids", stability),
    Board("throughput", "sessions", throughput),
    Board("aggregate", "tasks", aggregate),
)
NAMES = tuple(board.name for board in BOARDS)


def tables(
    store: Store,
    boards: Collection[str] = NAMES,
    only: frozenset[str] | None = None,
    baseline: str | None = None,
) -> list[Table]:
    """Return the tables of a store: the boards of each task and condition, then those over several tasks.

    `only` leaves out all but these tasks and conditions, by `Cell.table_id`; `baseline` is the label of the norm that
    others are compared to (left out: the runs' own).
    """
    asked = [board for board in BOARDS if board.name in boards]
    needs = {board.needs for board in asked}
    grids = {grid.table_id: grid for grid in gather(store, only, baseline)} if needs & {"grids", "tasks"} else {}
    sessions = gather_sessions(store, only, baseline) if needs & {"sessions", "tasks"} else {}
    given: dict[str, Mapping[str, Any]] = {
        "grids": grids,
        "sessions": sessions,
        "tasks": gather_tasks(grids.values(), sessions),
    }
    keys = dict.fromkeys(key for of_kind in given.values() for key in of_kind)
    made = (board.make(given[board.needs][key]) for key in keys for board in asked if key in given[board.needs])
    return [table for table in made if table is not None]
