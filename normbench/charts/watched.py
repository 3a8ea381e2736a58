"""What trainings gave by step or place, for each norm of a grid: at its chosen rate, or at rates that are asked for."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from normbench.boards.grid import Grid, Row
from normbench.charts.bands import Band, BandPanel, Scale, Seed
from normbench.charts.looks import Look
from normbench.charts.panels import Chart
from normbench.charts.scores import heading
from normbench.errors import UsageError
from normbench.store.records import Result

#: From so many seeds on the band is the 95% t interval of the mean; of fewer it is the seeds' min-max.
FOR_INTERVAL = 5
#: What the counts in a panel are.
LOST = "×n: n seeds diverged"
#: Panels side by side, where there are more.
ACROSS = 4


@dataclass(frozen=True)
class Quantity:
    """What is drawn of trials: the values of each by step, none where there are none. One label is one scale.

    `marks_ends`: it is marked where trainings end that diverge. Values that are not below `limit` are cut off.
    `x_label`: what values are by, where not by step. `linear`: its axis never is logarithmic.
    """

    label: str
    values: Callable[[Result], Mapping[int, float]]
    title: str = ""
    marks_ends: bool = True
    limit: float = math.inf
    x_label: str = "step"
    linear: bool = False


@dataclass(frozen=True)
class _Seen:
    """The seeds of each norm that have a quantity, in one panel: at a rate, or (None) at each norm's chosen one."""

    quantity: Quantity
    rate: float | None
    seeds: list[list[Seed]]

    @property
    def is_empty(self) -> bool:
        """Whether no seed of any norm has it."""
        return not any(self.seeds)

    @property
    def title(self) -> str:
        """What tells the panel from others of its label."""
        return ", ".join(filter(None, [self.quantity.title, f"rate {self.rate:g}" if self.rate is not None else ""]))


@dataclass(frozen=True)
class _Chart:
    """What is drawn of a grid: its norms, best first, and what each panel has of them.

    `lines` are the panels of each quantity by rate, the empty ones too; none is empty as a whole, nor is a rate.
    """

    grid: Grid
    rows: list[Row]
    lines: list[list[_Seen]]

    @property
    def panels(self) -> list[_Seen]:
        """Those that are not empty."""
        return [panel for panel in itertools.chain(*self.lines) if not panel.is_empty]

    @property
    def least(self) -> int:
        """The smallest number of seeds behind a line."""
        return min(len(seeds) for panel in self.panels for seeds in panel.seeds if seeds)

    def bands(self, panel: _Seen, styles: Mapping[str, Look]) -> list[Band]:
        """Return a panel's curves, those of all norms that have one in any panel."""
        several = len(self.grid.rates) > 1 and panel.rate is None
        return [
            Band.of(
                row.label,
                styles[row.cell.norm_id],
                panel.seeds[place],
                interval=self.least >= FOR_INTERVAL,
                rate=row.rate if several else None,
            )
            for place, row in enumerate(self.rows)
            if any(other.seeds[place] for other in self.panels)
        ]

    def how(self) -> str:
        """Say what a line and its band are."""
        [first, *_] = self.panels
        fresh = first.rate is None and any(row.reads_fresh for row in self.rows)
        counts = {len(seeds) for panel in self.panels for seeds in panel.seeds if seeds}
        one = counts == {1}
        many = f"{self.least} {'or more ' * (len(counts) > 1)}{'fresh ' * fresh}seed{'s' * (not one)}"
        band = "95% t interval" if self.least >= FOR_INTERVAL else "min–max"
        chosen = ", at each norm's chosen rate" * (first.rate is None and len(self.grid.rates) > 1)
        text = f"{many}{chosen}" if one else f"mean of {many}{chosen}, band: {band}"
        if any(seed.diverged for panel in self.panels for seeds in panel.seeds for seed in seeds):
            text += f"; {LOST}"
        lacking = [row.label for place, row in enumerate(self.rows) if not any(one.seeds[place] for one in self.panels)]
        return text + f"; no values of {', '.join(lacking)}" * bool(lacking)


def exact(rate: float) -> str:
    """Return a rate in words that no other rate has."""
    return short if float(short := f"{rate:g}") == rate else repr(rate)


def charts_of(
    asked: Iterable[tuple[Grid, Sequence[Quantity]]], rates: Sequence[float], styles: Mapping[str, Look]
) -> list[Chart]:
    """Return a chart for each grid that has values, of its norms best first, with one scale for each label and task.

    Each label has rows of panels of its own: of several rates a row for each title and a column for each rate. What has
    no values as a whole is left out. Raises UsageError for a rate that no grid has.
    """
    asked = list(asked)
    known = sorted({rate for grid, _ in asked for rate in grid.rates})
    for rate in rates:
        if rate not in known:
            there = ", ".join(map(exact, known))
            raise UsageError(f"rate {exact(rate)}: no norm was trained at it; the rates are {there}")
    seen = [_seen(grid, quantities, rates) for grid, quantities in asked]
    return list(_drawn([chart for chart in seen if chart.lines], styles))


def _seen(grid: Grid, quantities: Sequence[Quantity], rates: Sequence[float]) -> _Chart:
    sign = -1 if grid.measure.direction == "up" else 1
    rows = sorted(grid.rows, key=lambda row: sign * statistics.fmean(row.scores().values() or [sign * math.inf]))
    at: list[float | None] = [rate for rate in sorted(set(rates)) if rate in grid.rates] if rates else [None]
    lines = [[_Seen(one, rate, [list(_seeds(row, one, rate)) for row in rows]) for rate in at] for one in quantities]
    lines = [line for line in lines if not all(panel.is_empty for panel in line)]
    kept = [not all(panel.is_empty for panel in column) for column in zip(*lines, strict=True)]
    return _Chart(grid, rows, [list(itertools.compress(line, kept)) for line in lines])


def _seeds(row: Row, quantity: Quantity, rate: float | None) -> Iterator[Seed]:
    """Yield the seeds that boards show at a rate and have a quantity."""
    results = row.chosen() if rate is None else row.at(rate)
    for result in results.values():
        seed = Seed(quantity.values(result), quantity.marks_ends and result.outcome == "diverged")
        if seed.ends >= 0:
            yield seed


def _drawn(seen: Sequence[_Chart], styles: Mapping[str, Look]) -> Iterator[Chart]:
    drawn = [
        (chart, [[(panel, chart.bands(panel, styles)) for panel in line] for line in chart.lines]) for chart in seen
    ]
    alike: dict[tuple[str, str], list[tuple[_Seen, list[Band]]]] = {}
    for chart, lines in drawn:
        for panel, bands in itertools.chain(*lines):
            alike.setdefault((chart.grid.task, panel.quantity.label), []).append((panel, bands))
    scales = {
        key: Scale.of(
            (seed for panel, _ in panels for seeds in panel.seeds for seed in seeds),
            (band for _, bands in panels for band in bands),
            max(panel.quantity.limit for panel, _ in panels),
            linear=any(panel.quantity.linear for panel, _ in panels),
        )
        for key, panels in alike.items()
    }
    for chart, lines in drawn:
        xs = {x for _, bands in itertools.chain(*lines) for band in bands for x in band.xs}
        only = xs.pop() if len(xs) == 1 else None
        rows: list[list[BandPanel | None]] = []
        for label, of_label in itertools.groupby(lines, lambda line: line[0][0].quantity.label):
            scale = scales[chart.grid.task, label]
            rows += _arranged(
                [
                    None
                    if panel.is_empty
                    else BandPanel(panel.title, label, bands, scale, panel.quantity.x_label, only)
                    for panel, bands in line
                ]
                for line in of_label
            )
        yield Chart(heading(chart.grid, chart.grid.condition), chart.how(), rows)


def _arranged(lines: Iterable[list[BandPanel | None]]) -> Iterator[list[BandPanel | None]]:
    """Yield rows of panels, about as many in each: those of each line or, where that is one panel, of all lines."""
    lines = list(lines)
    for line in [list(itertools.chain(*lines))] if len(lines[0]) == 1 else lines:
        across = math.ceil(len(line) / math.ceil(len(line) / ACROSS))
        rows = [line[first : first + across] for first in range(0, len(line), across)]
        yield from (row for row in rows if any(row))
