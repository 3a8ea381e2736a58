"""Leaderboards: from a store to tables."""

from __future__ import annotations

from dataclasses import replace

from normbench.boards.accuracy import accuracy
from normbench.boards.aggregate import aggregate
from normbench.boards.grid import gather
from normbench.boards.stability import stability
from normbench.boards.throughput import Used, sessions, throughput
from normbench.store import Store
from normbench.tables import Table

__all__ = ["BOARDS", "tables"]

#: The boards that are made from one table's trials, and all boards in the order in which they are shown.
_OF_TRIALS = {"accuracy": accuracy, "stability": stability}
BOARDS = (*_OF_TRIALS, "throughput", "aggregate")


def tables(
    store: Store,
    boards: tuple[str, ...] = BOARDS,
    only: frozenset[str] | None = None,
    baseline: str | None = None,
) -> list[Table]:
    """Return the tables of a store: for every task and condition, each board that says something there; then the whole.

    `only` leaves out all but these tasks and conditions, by `Cell.table_id`; `baseline` is the label of the norm that
    others are compared to (left out: the runs' own).
    """
    gathered = gather(store, only) if {*_OF_TRIALS, "aggregate"} & set(boards) else []
    if baseline is not None:
        gathered = [replace(grid, baseline=baseline) for grid in gathered]
    grids = {grid.table_id: grid for grid in gathered}
    measured = sessions(store, only) if {"throughput", "aggregate"} & set(boards) else {}
    timed = measured if "throughput" in boards else {}
    environments = store.environments() if timed else {}
    prints = _prints(store) if timed else {}
    found: list[Table | None] = []
    for table in {**grids, **timed}:
        for board, made in _OF_TRIALS.items():
            if board in boards and table in grids:
                found.append(made(grids[table]))
        if table in timed:
            found.append(throughput(timed[table], environments, prints.get(table, {}), baseline))
    if "aggregate" in boards:
        found += aggregate(gathered, measured, baseline)
    return [table for table in found if table is not None]


def _prints(store: Store) -> dict[str, dict[str, Used]]:
    """Return of each table the code of each norm and its task that the latest run used, by `Cell.norm_id`."""
    found: dict[str, dict[str, Used]] = {}
    for run in store.runs():
        for cell in run.cells:
            found.setdefault(cell.table_id, {})[cell.norm_id] = Used(run.started, (cell.norm_print, cell.task_print))
    return found
