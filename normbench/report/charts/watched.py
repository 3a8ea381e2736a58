"""Learning curves, and what probes saw, of the trials that boards show: thinned, so that a page stays small."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from normbench.boards.grid import Grid
from normbench.charts import curves
from normbench.charts.bands import BandPanel
from normbench.charts.looks import Look
from normbench.charts.panels import Chart as Picture
from normbench.charts.traces import Watched
from normbench.charts.watched import Quantity, charts_of
from normbench.report.chart import Chart
from normbench.report.charts import bands
from normbench.store.records import Result
from normbench.suites import CURVE

#: The choice that is drawn at first, where norms have rates of their own.
CHOSEN = "each norm's chosen rate"


@dataclass(frozen=True)
class Room:
    """How much a page holds: so many points of a line, and so many charts of what probes saw of a grid."""

    points: int
    charts: int = 24
    places: int = 8


def learning(watched: Watched, grid: Grid, styles: Mapping[str, Look], room: Room) -> Iterator[Chart]:
    """Yield a grid's training loss and validation score by step, at each norm's chosen rate and at each rate."""
    losses = watched.traces(CURVE, "loss", any_params=True)
    for quantity in curves.quantities(losses, grid):
        steps = {step for row in grid.rows for result in row.shown for step in quantity.values(result)}
        if len(steps) > 1:
            yield from _at_rates(quantity, sorted(steps), grid, styles, room)


def _at_rates(
    quantity: Quantity, steps: Sequence[int], grid: Grid, styles: Mapping[str, Look], room: Room
) -> Iterator[Chart]:
    thin, left_out = thinned(quantity, steps, room.points)
    own = charts_of([(grid, [thin])], (), styles)
    at = charts_of([(grid, [thin])], grid.rates, styles) if len(grid.rates) > 1 else []
    pictures = [*own, *at]
    panels = [
        (panel.title or CHOSEN, panel)
        for picture in pictures
        for panel in picture.panels
        if isinstance(panel, BandPanel)
    ]
    if panels:
        yield bands.chart(panels, grid.where, _how(pictures), chooses="rate", left_out=left_out)


def _how(pictures: Sequence[Picture]) -> str:
    """Say what a line and its band are, where norms have rates of their own and at one rate."""
    own, *at = pictures
    return f"Each line: {own.how}." + "".join(f" At one rate: {one.how}." for one in at if one.how != own.how)


def thinned(quantity: Quantity, steps: Sequence[int], points: int) -> tuple[Quantity, str]:
    """Return a quantity at so many of its steps, or so, and what that leaves out; each training's last step is kept."""
    if len(steps) <= points:
        return quantity, ""
    last = len(steps) - 1
    kept = {steps[round(i * last / (points - 1))] for i in range(points)}

    def values(result: Result) -> Mapping[int, float]:
        given = quantity.values(result)
        return {step: value for step, value in given.items() if step in kept or step == max(given)}

    return replace(quantity, values=values), f"{len(kept)} of {len(steps)} {quantity.x_label}s are drawn"
