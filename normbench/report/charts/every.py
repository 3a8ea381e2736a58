"""Every chart of a results folder, by the task and condition that it is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from normbench.boards.grid import Grid
from normbench.boards.sessions import Sessions
from normbench.charts import rates
from normbench.charts.looks import Look, looks
from normbench.charts.traces import Watched, shown_in
from normbench.report.chart import Chart
from normbench.report.charts import scores, throughput
from normbench.report.charts.watched import Room, learning
from normbench.store import Store


def styles_of(store: Store) -> dict[str, Look]:
    """Return how each norm of a folder looks, by `norm_id`: the same in all its charts and pictures."""
    runs = (cell for run in store.runs() for cell in run.cells)
    return looks(chain(runs, (timing for session in store.sessions() for timing in session.timings)))


def charts(store: Store, grids: Sequence[Grid], sessions: Mapping[str, Sessions]) -> dict[str, list[Chart]]:
    """Return the charts of grids and sessions by `Cell.table_id`, in the order in which they are read."""
    styles = styles_of(store)
    watched = Watched.of(store, shown_in(grids))
    made: dict[str, list[Chart]] = {}
    for grid in grids:
        made.setdefault(grid.table_id, []).extend(_of_grid(grid, styles, watched, Room(points=100)))
    for table, measured in sessions.items():
        if (chart := throughput.chart(measured, styles)) is not None:
            made.setdefault(table, []).append(chart)
    return {table: of_table for table, of_table in made.items() if of_table}


def _of_grid(grid: Grid, styles: Mapping[str, Look], watched: Watched, room: Room) -> Iterator[Chart]:
    panel = rates.panel_of(grid, styles)
    if panel is not None:
        yield scores.chart(panel, grid.where)
    yield from learning(watched, grid, styles, room)
