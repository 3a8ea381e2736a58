"""Score at the chosen rate against a recipe value that conditions differ in, like the batch size."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from normbench.boards.grid import Grid, Row
from normbench.charts.looks import Look
from normbench.charts.panels import Chart
from normbench.charts.scores import Dot, ScorePanel, Scores, digits_of, heading, scale_of
from normbench.errors import UsageError
from normbench.spelling import spelled
from normbench.texts import visible


def charts(grids: list[Grid], styles: Mapping[str, Look], name: str) -> list[Chart]:
    """Return a chart per task and condition but for the recipe value `name`; the norms stand best first.

    Raises UsageError where no two conditions differ in that value alone, or a value of it is no number above 0.
    """
    for grid in grids:
        if name in grid.condition and grid.rows and not _has_place(value := grid.condition[name]):
            raise UsageError(f"against {name}: {value!r} is a value of it; only numbers above 0 have an axis")
    found = groups(grids, name)
    if not found:
        values = sorted({key for grid in grids for key in grid.condition})
        raise UsageError(f"against {name}: no two conditions differ in it alone; they have: {', '.join(values) or '-'}")
    return [_chart(group, name, styles) for group in found]


def groups(grids: Sequence[Grid], name: str) -> list[list[Grid]]:
    """Return the grids that differ in the recipe value `name` alone, in the order of its values, which are numbers."""
    having = [grid for grid in grids if grid.rows and _has_place(value_of(grid, name))]
    alike = [list(group) for _, group in itertools.groupby(sorted(having, key=_rest(name)), _rest(name))]
    several = [group for group in alike if len({value_of(grid, name) for grid in group}) > 1]
    return [sorted(group, key=lambda grid: float(value_of(grid, name))) for group in several]


def value_of(grid: Grid, name: str) -> Any:
    """Return a recipe value of a grid: that of its condition, else the task's own, which no condition has."""
    return grid.condition.get(name, getattr(grid.rows[0].cell.recipe, name, None))


def _has_place(value: object) -> bool:
    """Whether a logarithmic axis has a place for a value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _rest(name: str) -> Any:
    """Return a key that is equal for grids of one task and condition, but for a value."""
    return lambda grid: (
        spelled(grid.task, grid.task_params),
        sorted((key, str(value)) for key, value in but_for(grid, name).items()),
    )


def panel_of(grids: Sequence[Grid], name: str, styles: Mapping[str, Look]) -> ScorePanel:
    """Return the scores of a group at each value of `name`, the norms best first."""
    first, scale = grids[0], scale_of(grids[0])
    rows: dict[str, dict[float, Row]] = {}
    for grid in grids:
        for row in grid.rows:
            rows.setdefault(row.cell.norm_id, {})[float(value_of(grid, name))] = row
    curves = [
        Scores([*at.values()][-1].label, styles[norm], {value: _dots(row, scale) for value, row in at.items()})
        for norm, at in rows.items()
    ]
    sign = -1 if first.measure.direction == "up" else 1
    curves.sort(key=lambda curve: sign * statistics.fmean(itertools.chain(*curve.scores.values())))
    return ScorePanel(
        x_label=name,
        y_label=visible(f"{first.measure.name}, {first.measure.unit}"),
        xs=[float(value_of(grid, name)) for grid in grids],
        curves=curves,
        chance=scale * first.measure.chance,
        reference=scale * first.measure.reference,
        digits=digits_of(first),
    )


def but_for(grid: Grid, name: str) -> dict[str, object]:
    """Return a grid's condition without a value."""
    return {key: value for key, value in grid.condition.items() if key != name}


def _chart(grids: Sequence[Grid], name: str, styles: Mapping[str, Look]) -> Chart:
    seeds = f"{min(grid.seeds for grid in grids)} {'' if any(grid.same_seeds for grid in grids) else 'fresh '}seeds"
    how = f"at each one's chosen rate; mean of {seeds}, one dot per seed; ×n: n seeds failed; dotted: chance"
    return Chart(heading(grids[0], but_for(grids[0], name)), how, [[panel_of(grids, name, styles)]])


def _dots(row: Row, scale: float) -> list[Dot]:
    """Return what the seeds gave that a row is reported by, those without a score too."""
    own = {seed: row.results[seed, row.setting, row.rate] for seed in row.complete} if row.rate is not None else {}
    results = row.fresh_at(row.rate, row.setting) if row.reads_fresh else own
    return [Dot.of(seed, result, result.score, scale) for seed, result in results.items()]
