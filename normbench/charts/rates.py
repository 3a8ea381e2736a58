"""Score against learning rate, drawn with matplotlib: the stability board as a picture."""

from __future__ import annotations

import io
import math
import statistics
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normbench.boards.grid import Grid, Row
from normbench.boards.stability import split_of, stability
from normbench.charts.looks import Look, looks
from normbench.spelling import assignments
from normbench.texts import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from matplotlib.lines import Line2D

#: As many norms share a panel; of more, each has one of its own.
TOGETHER = 10
#: Panels side by side, where each norm has one.
ACROSS = 5


def draw(grids: list[Grid], form: str) -> bytes:
    """Draw one part per grid, its norms in one panel or in one each, and return the picture: "png" or "svg"."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style: dict[Any, Any] = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    # A name with $ is no formula.
    with plt.rc_context({**style, "svg.hashsalt": "normbench", "text.parse_math": False}):
        sizes = [_size(grid) for grid in grids]
        widths, heights = zip(*sizes, strict=True)
        figure = plt.figure(figsize=(max(widths), sum(heights)), layout="constrained")
        parts = figure.subfigures(len(grids), 1, squeeze=False, height_ratios=heights)[:, 0]
        styles = looks(row.cell for grid in grids for row in grid.rows)
        for grid, part in zip(grids, parts, strict=True):
            (_together if len(grid.rows) <= TOGETHER else _apart)(_Chart.of(grid, styles), part)
        picture = io.BytesIO()
        figure.savefig(picture, format=form, dpi=160, metadata={"Date": None} if form == "svg" else {})
        plt.close(figure)
    return picture.getvalue()


def _size(grid: Grid) -> tuple[float, float]:
    """Return width and height of a grid's part, in inches."""
    return (7.2, 4.4) if len(grid.rows) <= TOGETHER else (9.2, 1 + 1.5 * _lines(grid))


def _lines(grid: Grid) -> int:
    """Return how many lines of panels a grid has, where each norm has one."""
    return math.ceil(len(grid.rows) / ACROSS)


@dataclass(frozen=True)
class _Chart:
    """What the panels of a grid share: its norms in the order of the board, their looks, and the ends of its scores.

    Scores are as they are shown: `scale` times what is stored.
    """

    grid: Grid
    rows: list[Row]
    looks: dict[str, Look]
    scale: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, grid: Grid, looks: dict[str, Look]) -> _Chart:
        board = stability(grid)
        places = {row.norm: place for place, row in enumerate(board.rows if board else [])}
        rows = sorted(grid.rows, key=lambda row: places.get(row.label, len(places)))
        scale = 100.0 if grid.measure.unit == "%" else 1.0
        ends = [scale * grid.measure.chance, scale * grid.measure.reference]
        ends += [score for row in rows for rate in grid.rates for score in _scores(row, rate, scale)]
        return cls(grid, rows, looks, scale, min(ends), max(ends))

    @property
    def score(self) -> str:
        """What the scores are, with their unit."""
        return visible(f"{split_of(self.grid)} {self.grid.measure.name}, {self.grid.measure.unit}")

    @property
    def title(self) -> str:
        """What the picture is of, and how it is to be read."""
        condition = f", {assignments(self.grid.condition)}" if self.grid.condition else ""
        of = _wrapped(visible(f"{self.grid.task}{condition}"), 88)
        return f"{of}\nmean of {self.grid.grid_seeds} seeds, one dot per seed; ×n: n seeds failed; dotted: chance"

    def look(self, row: Row) -> Look:
        """Return how a norm looks."""
        return self.looks[row.cell.norm_id]

    def means(self, row: Row) -> list[float]:
        """Return a norm's mean score at each rate, NaN where it has none."""
        scores = [_scores(row, rate, self.scale) for rate in self.grid.rates]
        return [statistics.fmean(one) if one else math.nan for one in scores]

    def curve(self, row: Row, panel: Axes, shift: float, size: float) -> Line2D:
        """Draw one dot per seed, and the means with markers of a size; return the line of the means."""
        look, rates = self.look(row), self.grid.rates
        dots = [(rate * shift, score) for rate in rates for score in _scores(row, rate, self.scale)]
        faint: dict[str, Any] = {"linestyle": "", "alpha": 0.3, "markersize": size - 0.5, "markeredgewidth": 0}
        panel.plot(*zip(*dots, strict=True), color=look.colour, marker=look.marker, **faint)
        at = [rate * shift for rate in rates]
        [line] = panel.plot(at, self.means(row), linewidth=1.4, markersize=size, **look.style)
        return line

    def failures(self, row: Row, panel: Axes, height: float, shift: float, size: float) -> bool:
        """Write at each rate at which seeds failed how many; return whether there are any."""
        failed = {rate: sum(not result.trained for result in row.at(rate).values()) for rate in self.grid.rates}
        style: dict[str, Any] = {"color": self.look(row).colour, "fontsize": size, "ha": "center", "va": "center"}
        for rate, count in failed.items():
            if count:
                panel.text(rate * shift, height, f"×{count}", **style)
        return any(failed.values())

    def below(self, share: float) -> float:
        """Return a height that lies below the scores, by a share of what these span."""
        return self.lowest - share * (self.highest - self.lowest)

    def axes(self, panel: Axes, bottom: float, room: int) -> None:
        """Lay out a panel down to a height below the scores, with `room` characters along its rates."""
        panel.set_xscale("log")
        panel.set_xticks(self.grid.rates, list(_labels(self.grid.rates, room)))
        panel.minorticks_off()
        highest = self.highest + 0.03 * (self.highest - self.lowest)
        panel.set_ylim(bottom, highest)
        panel.locator_params(axis="y", nbins=8)
        panel.set_yticks([tick for tick in panel.get_yticks() if self.below(0.05) <= tick <= highest])
        panel.axhline(self.scale * self.grid.measure.chance, color="0.6", linewidth=0.8, linestyle=":", zorder=0)


def _together(chart: _Chart, part: SubFigure) -> None:
    """Draw all norms of a grid in one panel."""
    panel = part.subplots()
    lines = []
    for i, row in enumerate(chart.rows):
        # Side by side, not one over another: lines that coincide are seen.
        shift = 1.035 ** (i - (len(chart.rows) - 1) / 2)
        lines.append(chart.curve(row, panel, shift, 4.5))
        height = chart.below(0.09 + 0.045 * i)
        if chart.failures(row, panel, height, shift, 7):
            beside: dict[str, Any] = {"transform": panel.get_yaxis_transform(), "clip_on": False, "markersize": 4}
            panel.plot(1.02, height, **{**chart.look(row).style, "linestyle": ""}, **beside)
    chart.axes(panel, chart.below(0.1 + 0.045 * len(chart.rows)), 48)
    panel.tick_params(labelsize=9)
    panel.set_xlabel("learning rate")
    panel.set_ylabel(chart.score)
    panel.set_title(chart.title, fontsize=10, loc="left")
    # Named one by one: a legend that looks for itself leaves out labels that begin with _.
    labels = [_wrapped(visible(row.label), 34) for row in chart.rows]
    where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.03, 1)}
    panel.legend(lines, labels, frameon=False, fontsize=8, handlelength=3.2, **where)


def _apart(chart: _Chart, part: SubFigure) -> None:
    """Draw one panel per norm, with the curves of all in grey behind."""
    panels = list(part.subplots(_lines(chart.grid), ACROSS, sharex=True, sharey=True, squeeze=False).flat)
    rates = [*chart.grid.rates, math.nan] * len(chart.rows)
    means = [mean for row in chart.rows for mean in [*chart.means(row), math.nan]]
    for row, panel in zip(chart.rows, panels, strict=False):
        panel.plot(rates, means, color="0.85", linewidth=0.6, zorder=1)
        chart.curve(row, panel, 1, 3.5)
        chart.failures(row, panel, chart.below(0.11), 1, 6)
        chart.axes(panel, chart.below(0.18), 22)
        panel.tick_params(labelsize=7)
        panel.set_title(_wrapped(visible(row.label), 26), fontsize=7.5, loc="left")
    for panel in panels[len(chart.rows) :]:
        panel.remove()
    for panel in panels[: len(chart.rows)][-ACROSS:]:
        panel.tick_params(labelbottom=True)
    part.suptitle(f"{chart.title}; grey: the other norms", x=0.01, ha="left", fontsize=10)
    part.supxlabel("learning rate", fontsize=9)
    part.supylabel(chart.score, fontsize=9)


def _scores(row: Row, rate: float, scale: float) -> list[float]:
    return [scale * score for result in row.at(rate).values() if (score := result.selection) is not None]


def _labels(rates: list[float], room: int) -> Iterator[str]:
    """Yield a label per rate, an empty one where it would run into the last; `room` characters fit along the axis."""
    end = -math.inf
    span = math.log(rates[-1] / rates[0]) or 1.0  # of one rate any will do
    for rate in rates:
        label = f"{rate:g}"
        begin = room * math.log(rate / rates[0]) / span - len(label) / 2
        yield label if (fits := begin >= end + 0.5) else ""
        end = begin + len(label) if fits else end


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width, max_lines=3, placeholder=" …"))
