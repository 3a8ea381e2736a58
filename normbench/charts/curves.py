"""Learning curves: training loss, and score on validation, against the step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from normbench.boards.accuracy import before_diverging, measured_at
from normbench.boards.grid import Grid
from normbench.charts.looks import Look
from normbench.charts.panels import Chart
from normbench.charts.scores import scale_of
from normbench.charts.traces import Traces, find
from normbench.charts.watched import Quantity, charts_of
from normbench.store import Store
from normbench.store.records import Result
from normbench.texts import visible

#: Losses so many times higher than any at the first step are cut off.
FAR = 10


def charts(store: Store, grids: list[Grid], styles: Mapping[str, Look], rates: Sequence[float]) -> list[Chart]:
    """Return a chart per grid: the loss by step, and below it the score each time that validation was measured."""
    traces = find(store, grids, "curve", "loss", any_params=True)
    return charts_of([(grid, quantities(traces, grid)) for grid in grids], rates, styles)


def quantities(traces: Traces | None, grid: Grid) -> list[Quantity]:
    """Return what learning curves show of a grid; without the losses of its trials where there are none."""
    if traces is None:
        return [_validation(grid)]
    # Beside the losses of a training that is about to diverge, those of all others would lie flat.
    series = traces.found.values()
    firsts = [float(first) for one in series for first in one.value[:1] if not isinstance(first, list)]
    limit = FAR * max(filter(math.isfinite, firsts), default=math.inf)
    return [Quantity("training loss", traces.by_step(), limit=limit), _validation(grid)]


def _validation(grid: Grid) -> Quantity:
    scale = scale_of(grid)

    def values(result: Result) -> Mapping[int, float]:
        steps = [round(epochs * result.epoch_steps) for epochs in measured_at(result)]
        scores = [math.nan if score is None else scale * score for score in before_diverging(result)]
        return dict(zip(steps, scores, strict=False))

    # Percent are read as such also where some are near 0.
    label, linear = visible(f"validation {grid.measure.name}, {grid.measure.unit}"), grid.measure.unit == "%"
    return Quantity(label, values, marks_ends=False, linear=linear)
