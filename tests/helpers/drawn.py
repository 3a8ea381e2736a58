"""What the charts of a results folder hold, as tests read it."""

from __future__ import annotations

from typing import Any

from normbench.boards.grid import gather
from normbench.boards.sessions import gather_sessions
from normbench.report.chart import Chart
from normbench.report.charts.every import charts
from normbench.store import Store


def drawn(store: Store) -> dict[str, Chart]:
    """Return the charts of a folder of one task and condition, by title."""
    made = charts(store, gather(store), gather_sessions(store))
    return {chart.title: chart for of_table in made.values() for chart in of_table}


def rows(chart: Chart, **fields: Any) -> list[dict[str, Any]]:
    """Return the rows of a chart that have these values."""
    every = (dict(zip(chart.columns, values, strict=True)) for values in zip(*chart.columns.values(), strict=True))
    return [row for row in every if fields.items() <= row.items()]
