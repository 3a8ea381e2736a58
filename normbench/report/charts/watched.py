"""Learning curves, and what probes saw, of the trials that boards show: thinned, so that a page stays small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from normbench.boards.grid import Grid
from normbench.charts import curves
from normbench.charts.bands import BandPanel
from normbench.charts.looks import Look
from normbench.charts.panels import Chart as Picture
from normbench.charts.traces import Traces, Watched, shown_in
from normbench.charts.watched import LOST, Quantity, charts_of
from normbench.report.chart import Chart
from normbench.report.charts import bands
from normbench.report.charts.layers import titled
from normbench.store.records import Result
from normbench.suites import CURVE
from normbench.texts import visible

#: The choice that is drawn at first, where norms have rates of their own.
CHOSEN = "each norm's chosen rate"
#: The series that learning curves show.
LEARNING = ((CURVE, "loss"), (CURVE, "validation"))
#: Rows of data, of 60 bytes or so, that a page has: for losses, for scores at most as many, and for what probes saw.
ROWS, ROWS_SEEN = 22_500, 10_000
#: Points of a line: fewer have not its shape, and more are not seen.
LEAST, MOST = 20, 120
#: From so many places on a vector is drawn by place as well, and of more than these places some.
FEW, PLACES = 5, 16


@dataclass(frozen=True)
class Room:
    """What a page has room for: the points of a learning curve, and of what probes saw; and of these which series.

    Learning curves are at each rate where these are `at_rates`, else at each norm's chosen one alone.
    """

    points: int
    at_rates: bool
    seen: int
    series: Sequence[tuple[str, str]]
    left_out: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, grids: Sequence[Grid], watched: Watched) -> Room:
        """Return the room of a page that shows these grids."""
        norms = sum(len(grid.rows) for grid in grids)
        lines = sum(len(grid.rows) * (1 + len(grid.rates)) for grid in grids)
        at_rates = lines * LEAST <= ROWS
        series: list[tuple[str, str]] = []
        left_out: list[tuple[str, str]] = []
        seen = 0
        for name, places in watched.places.items():
            if name not in LEARNING:
                more = norms * (min(places, PLACES) or 1)
                fits = (seen + more) * LEAST <= ROWS_SEEN
                (series if fits else left_out).append(name)
                seen += more * fits
        return cls(_points(ROWS, lines if at_rates else norms), at_rates, _points(ROWS_SEEN, seen), series, left_out)


def _points(rows: int, lines: int) -> int:
    return max(LEAST, min(MOST, rows // max(lines, 1)))


def learning(losses: Traces | None, grid: Grid, styles: Mapping[str, Look], room: Room) -> Iterator[Chart]:
    """Yield a grid's training loss and validation score by step, at each norm's chosen rate and at each rate."""
    for quantity in curves.quantities(losses, grid):
        thin, left_out = _thinned([quantity], grid, room.points)
        pictures = charts_of([(grid, thin)], (), styles)
        if len(grid.rates) > 1 and room.at_rates:
            pictures += charts_of([(grid, thin)], grid.rates, styles)
        elif len(grid.rates) > 1:
            left_out = _listed(left_out, "other rates than the chosen ones are not drawn")
        panels = [(panel.title or CHOSEN, panel) for panel in _panels(pictures)]
        # One point is no curve: boards have it.
        if any(panel.only is None for _, panel in panels):
            what = titled(quantity.label)
            yield bands.chart(panels, what, grid.where, _how(pictures), chooses="rate", left_out=left_out)


def seen(traces: Traces, grid: Grid, styles: Mapping[str, Look], room: Room, about: str) -> Iterator[Chart]:
    """Yield what a probe saw of a grid, which is `about` something, by step; of many places also by place."""
    for quantities, chooses, left_out in _quantities(traces, grid, room):
        pictures = charts_of([(grid, quantities)], (), styles)
        if panels := [(panel.title, panel) for panel in _panels(pictures)]:
            what, how = visible(traces.label), " ".join(filter(None, [about, _how(pictures)]))
            yield bands.chart(panels, what, grid.where, how, chooses=chooses, left_out=left_out)


def _quantities(traces: Traces, grid: Grid, room: Room) -> Iterator[tuple[list[Quantity], str, str]]:
    """Yield what is drawn of a series, each with what its panels are chosen by and what is left out."""
    label = visible(traces.label)
    chosen = _spread(range(traces.places or 1), PLACES)
    by_step = [Quantity(label, traces.by_step(at), f"place {at}" if traces.places else "") for at in chosen]
    thin, left_out = _thinned(by_step, grid, room.seen)
    some = f"{len(chosen)} of {traces.places} places are drawn" * (len(chosen) < traces.places)
    yield thin, "place", _listed(some, left_out)
    if traces.places >= FEW:
        last = traces.steps[-1]
        by_place = Quantity(label, traces.by_place(last), f"step {last}", marks_ends=False, x_label="place")
        yield [by_place], "step", ""


def _panels(pictures: Sequence[Picture]) -> list[BandPanel]:
    return [panel for picture in pictures for panel in picture.panels if isinstance(panel, BandPanel)]


def _how(pictures: Sequence[Picture]) -> str:
    """Say what a line and its band are, where norms have rates of their own and at one rate."""
    how = [picture.how.replace(LOST, "× marks where seeds diverged") for picture in pictures]
    return f"Each line: {how[0]}." + "".join(f" At one rate: {one}." for one in how[1:] if one != how[0])


def _thinned(quantities: list[Quantity], grid: Grid, points: int) -> tuple[list[Quantity], str]:
    """Return quantities at so many of their steps, or so, and what that leaves out.

    Each training's last step is kept: it may have diverged there.
    """
    shown = shown_in([grid])
    steps = sorted({step for result in shown for step in quantities[0].values(result)})
    if len(steps) <= points:
        return quantities, ""
    kept = set(_spread(steps, points))
    thin = [replace(quantity, values=_at(kept, quantity.values)) for quantity in quantities]
    return thin, f"{len(kept)} of {len(steps)} steps are drawn"


def _at(kept: Set[int], values: Callable[[Result], Mapping[int, float]]) -> Callable[[Result], Mapping[int, float]]:
    """Return what gives a trial's values at the steps that are kept, and at its last."""

    def some(result: Result) -> Mapping[int, float]:
        given = values(result)
        last = max(given, default=-1)
        return {step: value for step, value in given.items() if step in kept or step == last}

    return some


def _spread(values: Sequence[int], most: int) -> list[int]:
    """Return as many values as these, evenly spread from the first to the last, or all."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _listed(*texts: str) -> str:
    return "; ".join(filter(None, texts))
