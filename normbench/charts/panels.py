"""Pictures of curves, one per norm: all in the same panels or, where there are many, each in a panel of its own."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from normbench.charts.looks import Look
from normbench.texts import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from matplotlib.lines import Line2D

    from normbench.charts.picture import Picture

#: As many curves share a panel; of more, each has one of its own.
TOGETHER = 10
#: Panels side by side, where each curve has one.
ACROSS = 5


class Curve(Protocol):
    """What a panel has of a norm."""

    @property
    def label(self) -> str:
        """The norm, and what else belongs beside its line."""

    @property
    def look(self) -> Look:
        """How the norm looks."""


class Panel(Protocol):
    """Curves over the same axes, in the order in which they are to be read."""

    @property
    def title(self) -> str:
        """What tells it from the other panels of its chart; "" for nothing."""

    @property
    def x_label(self) -> str:
        """What the horizontal axis shows."""

    @property
    def y_label(self) -> str:
        """What the vertical axis shows."""

    @property
    def curves(self) -> Sequence[Curve]:
        """One per norm: in all panels of a chart the same norms."""

    def together(self, axes: Axes) -> list[Line2D]:
        """Draw all curves, and return the line of each."""

    def apart(self, axes: Axes, place: int) -> None:
        """Draw the curve at a place, smaller, with the others in grey behind."""


@dataclass(frozen=True)
class Chart:
    """Panels in rows, each row on one vertical scale: a heading, below it how the panels are to be read.

    A row may have gaps, but none is empty, nor is a column.
    """

    heading: str
    how: str
    rows: Sequence[Sequence[Panel | None]]

    @property
    def panels(self) -> list[Panel]:
        """All panels, row by row."""
        return [panel for panel in itertools.chain(*self.rows) if panel is not None]

    @property
    def curves(self) -> Sequence[Curve]:
        """Those of any panel."""
        return self.panels[0].curves

    @property
    def across(self) -> int:
        """How many panels stand side by side at most."""
        return ACROSS if self.is_apart else max(map(len, self.rows))

    @property
    def down(self) -> int:
        """How many rows of panels there are."""
        return math.ceil(len(self.curves) / ACROSS) if self.is_apart else len(self.rows)

    @property
    def is_apart(self) -> bool:
        """Whether each curve has a panel of its own."""
        return len(self.curves) > TOGETHER

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the panels, in inches."""
        if self.is_apart:
            return 9.2, 0.4 + 1.5 * self.down
        width, height = {1: (5.2, 2.6), 2: (3.7, 2.5), 3: (2.9, 2.2)}.get(self.across, (2.4, 2.0))
        return 2 + self.across * width, 4.0 if self.down == self.across == 1 else 0.4 + self.down * height

    def title(self, width: float) -> str:
        """Return what stands above the panels, folded to a width in inches."""
        how = self.how + "; grey: the other norms" * self.is_apart
        return "\n".join(wrapped(text, int(12.5 * width)) for text in (self.heading, how))

    def parts(self) -> Iterator[Chart]:
        """Yield the charts that are drawn: of many curves, one for each panel."""
        if not self.is_apart:
            yield self
            return
        for panel in self.panels:
            yield Chart(", ".join(filter(None, [self.heading, panel.title])), self.how, [[panel]])


def figure(charts: Iterable[Chart]) -> Picture:
    """Draw charts, one below the other."""
    import matplotlib as mpl

    from normbench.charts.picture import MADE, Picture

    drawn = [part for chart in charts for part in chart.parts()]
    width = max(chart.size[0] for chart in drawn)
    titles = [chart.title(width) for chart in drawn]
    # A title has a part of its own: a legend would begin beside it.
    heights = [
        inches
        for chart, title in zip(drawn, titles, strict=True)
        for inches in (0.19 * (1 + title.count("\n")), chart.size[1])
    ]
    with mpl.rc_context(MADE):
        picture = Picture(figsize=(width, sum(heights)), layout="constrained")
        parts = iter(picture.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
        for chart, title in zip(drawn, titles, strict=True):
            next(parts).text(0.01, 0, title, va="bottom")
            (_apart if chart.is_apart else _together)(chart, next(parts))
    return picture


def _together(chart: Chart, part: SubFigure) -> None:
    """Draw all curves of a chart in the same panels."""
    grid = part.subplots(chart.down, chart.across, sharex=True, sharey="row", squeeze=False)
    for row, across in zip(chart.rows, grid, strict=True):
        for panel, axes in itertools.zip_longest(row, across):
            if panel is None:
                axes.remove()
                continue
            lines = panel.together(axes)
            axes.tick_params(labelsize=9 if chart.across == 1 else 8)
            axes.set_title(wrapped(visible(panel.title), 40), fontsize=9, loc="left")
        first, panel = next((axes, panel) for axes, panel in zip(across, row, strict=False) if panel is not None)
        first.tick_params(labelleft=True)
        first.set_ylabel(wrapped(panel.y_label, 40 if chart.across == 1 else 24))
    for panels, column in zip(itertools.zip_longest(*chart.rows), grid.T, strict=True):
        lowest, panel = [(axes, panel) for panel, axes in zip(panels, column, strict=True) if panel is not None][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel(panel.x_label)
    # Named one by one: a legend that looks for itself leaves out labels that begin with _.
    labels = [wrapped(visible(curve.label), 34) for curve in chart.curves]
    part.legend(lines, labels, loc="outside right upper", frameon=False, fontsize=8, handlelength=3.2)


def _apart(chart: Chart, part: SubFigure) -> None:
    """Draw one panel per curve."""
    [panel] = chart.panels
    grid = list(part.subplots(chart.down, ACROSS, sharex=True, sharey=True, squeeze=False).flat)
    for place, (curve, axes) in enumerate(zip(panel.curves, grid, strict=False)):
        panel.apart(axes, place)
        axes.tick_params(labelsize=7)
        axes.set_title(wrapped(visible(curve.label), 26), fontsize=7.5, loc="left")
    for axes in grid[len(panel.curves) :]:
        axes.remove()
    for axes in grid[: len(panel.curves)][-ACROSS:]:
        axes.tick_params(labelbottom=True)
    part.supxlabel(panel.x_label, fontsize=9)
    part.supylabel(panel.y_label, fontsize=9)


def wrapped(text: str, width: int) -> str:
    """Return a text folded to a width, in three lines at most."""
    return "\n".join(textwrap.wrap(text, width, max_lines=3, placeholder=" …"))
