"""Leaderboards: from a store to tables, and one way to print them all."""

from __future__ import annotations

from normbench.boards.accuracy import accuracy
from normbench.boards.gather import Grid, gather, shown_trials
from normbench.boards.stability import stability
from normbench.boards.table import Table
from normbench.store import Store

__all__ = ["BOARDS", "Grid", "Table", "gather", "shown_trials", "tables"]

BOARDS = {"accuracy": accuracy, "stability": stability}


def tables(store: Store, boards: tuple[str, ...] = tuple(BOARDS), only: frozenset[str] | None = None) -> list[Table]:
    """Return the tables of a store: for every task and condition, each board that says something there.

    `only` leaves out all but these tasks and conditions, by `Cell.table`.
    """
    found = [BOARDS[board](grid) for grid in gather(store, only) for board in boards]
    return [table for table in found if table is not None]
