"""Every chart of a results folder, by the task and condition that it is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from altair.utils.schemapi import debug_mode

from normbench import plugins
from normbench.boards.grid import Grid
from normbench.boards.sessions import Sessions
from normbench.charts import against, rates
from normbench.charts.looks import Look, looks_in
from normbench.charts.scores import heading
from normbench.charts.traces import Watched, shown_in
from normbench.report.chart import Chart
from normbench.report.charts import scores, throughput
from normbench.report.charts.watched import Room, learning, seen
from normbench.store import Store
from normbench.suites import CURVE
from normbench.texts import visible


def charts(store: Store, grids: Sequence[Grid], sessions: Mapping[str, Sessions]) -> dict[str, list[Chart]]:
    """Return the charts of grids and sessions by `Cell.table_id`, in the order in which they are read.

    One of several conditions stands with the first of them.
    """
    styles = looks_in(store)
    watched = Watched.of(store, shown_in(grids))
    room = Room.of(grids, watched)
    losses = watched.traces(CURVE, "loss", any_params=True)
    made: dict[str, list[Chart]] = {}
    # Altair would check each part of each chart against its schema, for seconds. A test does, for each kind.
    with debug_mode(False):
        for table, chart in chain(
            _of_scores(grids, styles),
            _of_conditions(grids, styles),
            ((grid.table_id, chart) for grid in grids for chart in learning(losses, grid, styles, room)),
            _of_sessions(sessions, styles),
            _of_probes(watched, grids, styles, room),
        ):
            made.setdefault(table, []).append(chart)
    if room.left_out and made:
        *_, last = made.values()
        words = ", ".join(visible(f"{probe}.{name}") for probe, name in room.left_out)
        last[-1] = replace(last[-1], left_out="; ".join(filter(None, [last[-1].left_out, f"no room for {words}"])))
    return made


def _of_scores(grids: Sequence[Grid], styles: Mapping[str, Look]) -> Iterator[tuple[str, Chart]]:
    for grid in grids:
        if (panel := rates.panel_of(grid, styles)) is not None:
            yield grid.table_id, scores.chart(panel, grid.where)


def _of_conditions(grids: Sequence[Grid], styles: Mapping[str, Look]) -> Iterator[tuple[str, Chart]]:
    for name in sorted({name for grid in grids for name in grid.condition}):
        for group in against.groups(grids, name):
            where = heading(group[0], against.but_for(group[0], name))
            panel = against.panel_of(group, name, styles)
            yield group[0].table_id, scores.chart(panel, where, "at its chosen rate")


def _of_sessions(sessions: Mapping[str, Sessions], styles: Mapping[str, Look]) -> Iterator[tuple[str, Chart]]:
    for table, measured in sessions.items():
        if (chart := throughput.chart(measured, styles)) is not None:
            yield table, chart


def _of_probes(
    watched: Watched, grids: Sequence[Grid], styles: Mapping[str, Look], room: Room
) -> Iterator[tuple[str, Chart]]:
    known = plugins.current().probes
    for probe, name in room.series:
        about = f"{visible(known[probe].thing.summary)}." if probe in known else ""
        if (traces := watched.traces(probe, name)) is not None:
            for grid in grids:
                for chart in seen(traces.among(shown_in([grid])), grid, styles, room, about):
                    yield grid.table_id, chart
