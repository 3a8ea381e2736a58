"""Score against learning rate: the stability board as a picture."""

from __future__ import annotations

from collections.abc import Mapping

from normbench.boards.grid import Grid, Row
from normbench.boards.stability import split_of, stability
from normbench.charts.looks import Look
from normbench.charts.panels import Chart
from normbench.charts.scores import Dot, ScorePanel, Scores, digits_of, heading, scale_of
from normbench.texts import visible


def charts(grids: list[Grid], styles: Mapping[str, Look]) -> list[Chart]:
    """Return a chart per grid that has a panel: its seeds' scores at each rate."""
    return [_chart(grid, panel) for grid in grids if (panel := panel_of(grid, styles)) is not None]


def panel_of(grid: Grid, styles: Mapping[str, Look]) -> ScorePanel | None:
    """Return a grid's scores at each rate, the norms in the order of the board; None of one rate, or no norm."""
    if len(grid.rates) < 2 or not grid.rows:
        return None
    board = stability(grid)
    places = {row.norm: place for place, row in enumerate(board.rows if board else [])}
    rows = sorted(grid.rows, key=lambda row: places.get(row.label, len(places)))
    scale = scale_of(grid)
    return ScorePanel(
        x_label="learning rate",
        y_label=visible(f"{split_of(grid)} {grid.measure.name}, {grid.measure.unit}"),
        xs=grid.rates,
        curves=[_curve(row, grid.rates, styles[row.cell.norm_id], scale) for row in rows],
        chance=scale * grid.measure.chance,
        reference=scale * grid.measure.reference,
        digits=digits_of(grid),
    )


def _chart(grid: Grid, panel: ScorePanel) -> Chart:
    how = f"mean of {grid.grid_seeds} seeds, one dot per seed; ×n: n seeds failed; dotted: chance"
    return Chart(heading(grid, grid.condition), how, [[panel]])


def _curve(row: Row, rates: list[float], look: Look, scale: float) -> Scores:
    complete = set(row.complete)
    dots: dict[float, list[Dot]] = {rate: [] for rate in rates}
    for (seed, setting, rate), result in row.results.items():
        if setting == row.setting:
            dots[rate].append(Dot.of(seed, result, result.selection, scale, counts=seed in complete))
    return Scores(row.label, look, dots)
