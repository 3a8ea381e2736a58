"""Score against learning rate: the stability board as a picture."""

from __future__ import annotations

from collections.abc import Mapping

from normbench.boards.grid import Grid, Row
from normbench.boards.stability import split_of, stability
from normbench.charts.looks import Look
from normbench.charts.panels import Chart
from normbench.charts.scores import ScorePanel, Scores, heading, scale_of
from normbench.texts import visible


def charts(grids: list[Grid], styles: Mapping[str, Look]) -> list[Chart]:
    """Return a chart per grid of several rates: its seeds' scores at each, the norms in the order of the board."""
    return [_chart(grid, styles) for grid in grids if len(grid.rates) > 1 and grid.rows]


def _chart(grid: Grid, styles: Mapping[str, Look]) -> Chart:
    board = stability(grid)
    places = {row.norm: place for place, row in enumerate(board.rows if board else [])}
    rows = sorted(grid.rows, key=lambda row: places.get(row.label, len(places)))
    scale = scale_of(grid)
    panel = ScorePanel(
        x_label="learning rate",
        y_label=visible(f"{split_of(grid)} {grid.measure.name}, {grid.measure.unit}"),
        xs=grid.rates,
        curves=[_curve(row, grid.rates, styles[row.cell.norm_id], scale) for row in rows],
        chance=scale * grid.measure.chance,
        reference=scale * grid.measure.reference,
    )
    how = f"mean of {grid.grid_seeds} seeds, one dot per seed; ×n: n seeds failed; dotted: chance"
    return Chart(heading(grid, grid.condition), how, [[panel]])


def _curve(row: Row, rates: list[float], look: Look, scale: float) -> Scores:
    at = {rate: row.at(rate).values() for rate in rates}
    scores = {
        rate: [scale * score for result in results if (score := result.selection) is not None]
        for rate, results in at.items()
    }
    failed = {rate: sum(not result.trained for result in results) for rate, results in at.items()}
    return Scores(row.label, look, scores, failed)
