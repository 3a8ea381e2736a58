"""Score against learning rate: the stability board as a picture."""

from __future__ import annotations

from normbench.boards.grid import Grid, Row
from normbench.boards.stability import split_of, stability
from normbench.charts.looks import Look, looks
from normbench.charts.panels import Chart, Curve, wrapped
from normbench.spelling import assignments
from normbench.texts import visible


def charts(grids: list[Grid]) -> list[Chart]:
    """Return a chart per grid: its seeds' scores at each rate, the norms in the order of the board."""
    styles = looks(row.cell for grid in grids for row in grid.rows)
    return [_chart(grid, styles) for grid in grids]


def heading(grid: Grid, condition: dict[str, object]) -> str:
    """Return a line that names a grid's task, under a condition."""
    return wrapped(visible(f"{grid.task}{', ' * bool(condition)}{assignments(condition)}"), 88)


def scale_of(grid: Grid) -> float:
    """Return what a stored score is multiplied by when it is shown."""
    return 100.0 if grid.measure.unit == "%" else 1.0


def _chart(grid: Grid, styles: dict[str, Look]) -> Chart:
    board = stability(grid)
    places = {row.norm: place for place, row in enumerate(board.rows if board else [])}
    rows = sorted(grid.rows, key=lambda row: places.get(row.label, len(places)))
    how = f"mean of {grid.grid_seeds} seeds, one dot per seed; ×n: n seeds failed; dotted: chance"
    scale = scale_of(grid)
    return Chart(
        title=f"{heading(grid, grid.condition)}\n{how}",
        x_label="learning rate",
        y_label=visible(f"{split_of(grid)} {grid.measure.name}, {grid.measure.unit}"),
        xs=grid.rates,
        curves=[_curve(row, grid.rates, styles[row.cell.norm_id], scale) for row in rows],
        chance=scale * grid.measure.chance,
        reference=scale * grid.measure.reference,
    )


def _curve(row: Row, rates: list[float], look: Look, scale: float) -> Curve:
    at = {rate: row.at(rate).values() for rate in rates}
    scores = {
        rate: [scale * score for result in results if (score := result.selection) is not None]
        for rate, results in at.items()
    }
    failed = {rate: sum(not result.trained for result in results) for rate, results in at.items()}
    return Curve(row.label, look, scores, failed)
