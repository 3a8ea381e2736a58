"""Leaderboards: from a store to tables, and one way to print them all."""

from __future__ import annotations

from normbench.boards.accuracy import accuracy
from normbench.boards.gather import Grid, gather, shown_trials
from normbench.boards.stability import stability
from normbench.boards.table import Table
from normbench.boards.throughput import Used, sessions, throughput
from normbench.store import Store

__all__ = ["BOARDS", "Grid", "Table", "gather", "shown_trials", "tables"]

#: The boards that are made from trials, and all boards in the order in which they are shown.
_OF_TRIALS = {"accuracy": accuracy, "stability": stability}
BOARDS = (*_OF_TRIALS, "throughput")


def tables(store: Store, boards: tuple[str, ...] = BOARDS, only: frozenset[str] | None = None) -> list[Table]:
    """Return the tables of a store: for every task and condition, each board that says something there.

    `only` leaves out all but these tasks and conditions, by `Cell.table`.
    """
    grids = {grid.table: grid for grid in gather(store, only)}
    timed = sessions(store, only) if "throughput" in boards else {}
    environments = store.environments() if timed else {}
    prints = _prints(store) if timed else {}
    found: list[Table | None] = []
    for table in {**grids, **timed}:
        for board in boards:
            if board == "throughput":
                found.append(throughput(timed[table], environments, prints.get(table, {})) if table in timed else None)
            else:
                found.append(_OF_TRIALS[board](grids[table]) if table in grids else None)
    return [table for table in found if table is not None]


def _prints(store: Store) -> dict[str, dict[str, Used]]:
    """Return of each table the code of each norm and its task that the latest run used, by `Cell.row`."""
    found: dict[str, dict[str, Used]] = {}
    for run in store.runs():
        for cell in run.cells:
            found.setdefault(cell.table, {})[cell.row] = Used(run.started, (cell.norm_print, cell.task_print))
    return found
