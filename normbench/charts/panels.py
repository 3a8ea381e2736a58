"""Pictures of curves, drawn with matplotlib: in one panel, or where there are many in one panel each."""

from __future__ import annotations

import io
import math
import statistics
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from normbench.charts.looks import Look
from normbench.texts import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from matplotlib.lines import Line2D

#: As many curves share a panel; of more, each has one of its own.
TOGETHER = 10
#: Panels side by side, where each curve has one.
ACROSS = 5


@dataclass(frozen=True)
class Curve:
    """A norm's scores at each x, one per seed, as they are shown, and how many seeds failed there."""

    label: str
    look: Look
    scores: Mapping[float, list[float]]
    failed: Mapping[float, int]

    def means(self, xs: list[float]) -> list[float]:
        """Return the mean score at each x, NaN where there is none."""
        return [statistics.fmean(scores) if (scores := self.scores.get(x)) else math.nan for x in xs]

    def draw(self, panel: Axes, xs: list[float], shift: float, size: float) -> Line2D:
        """Draw one dot per seed, and the means with markers of a size; return the line of the means."""
        dots = [(x * shift, score) for x in xs for score in self.scores.get(x, ())]
        faint: dict[str, Any] = {"linestyle": "", "alpha": 0.3, "markersize": size - 0.5, "markeredgewidth": 0}
        panel.plot(*zip(*dots, strict=True), color=self.look.colour, marker=self.look.marker, **faint)
        at = [x * shift for x in xs]
        [line] = panel.plot(at, self.means(xs), linewidth=1.4, markersize=size, **self.look.style)
        return line

    def draw_failures(self, panel: Axes, height: float, shift: float, size: float) -> bool:
        """Write at each x at which seeds failed how many; return whether there are any."""
        style: dict[str, Any] = {"color": self.look.colour, "fontsize": size, "ha": "center", "va": "center"}
        for x, count in self.failed.items():
            if count:
                panel.text(x * shift, height, f"×{count}", **style)
        return any(self.failed.values())


@dataclass(frozen=True)
class Chart:
    """Curves over the same xs, above 0, on a logarithmic axis, in the order in which they are to be read."""

    title: str
    x_label: str
    y_label: str
    xs: list[float]
    curves: list[Curve]
    #: Scores that are drawn as a dotted line, and that the axis is to reach.
    chance: float
    reference: float

    @cached_property
    def lowest(self) -> float:
        """The lowest score."""
        return min([self.chance, self.reference, *self._scores()])

    @cached_property
    def highest(self) -> float:
        """The highest score."""
        return max([self.chance, self.reference, *self._scores()])

    def _scores(self) -> Iterator[float]:
        for curve in self.curves:
            for scores in curve.scores.values():
                yield from scores

    def below(self, share: float) -> float:
        """Return a height that lies below the scores, by a share of what these span."""
        return self.lowest - share * (self.highest - self.lowest)

    def axes(self, panel: Axes, bottom: float, room: int) -> None:
        """Lay out a panel down to a height below the scores, with `room` characters along its xs."""
        panel.set_xscale("log")
        panel.set_xticks(self.xs, list(_labels(self.xs, room)))
        panel.minorticks_off()
        highest = self.highest + 0.03 * (self.highest - self.lowest)
        panel.set_ylim(bottom, highest)
        panel.locator_params(axis="y", nbins=8)
        panel.set_yticks([tick for tick in panel.get_yticks() if self.below(0.05) <= tick <= highest])
        panel.axhline(self.chance, color="0.6", linewidth=0.8, linestyle=":", zorder=0)


def draw(charts: list[Chart], form: str) -> bytes:
    """Draw charts, one below the other, and return the picture: "png" or "svg"."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style: dict[Any, Any] = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    # A name with $ is no formula.
    with plt.rc_context({**style, "svg.hashsalt": "normbench", "text.parse_math": False}):
        widths, heights = zip(*[_size(chart) for chart in charts], strict=True)
        figure = plt.figure(figsize=(max(widths), sum(heights)), layout="constrained")
        parts = figure.subfigures(len(charts), 1, squeeze=False, height_ratios=heights)[:, 0]
        for chart, part in zip(charts, parts, strict=True):
            (_together if len(chart.curves) <= TOGETHER else _apart)(chart, part)
        picture = io.BytesIO()
        figure.savefig(picture, format=form, dpi=160, metadata={"Date": None} if form == "svg" else {})
        plt.close(figure)
    return picture.getvalue()


def _size(chart: Chart) -> tuple[float, float]:
    """Return width and height of a chart, in inches."""
    return (7.2, 4.4) if len(chart.curves) <= TOGETHER else (9.2, 1 + 1.5 * _lines(chart))


def _lines(chart: Chart) -> int:
    """Return how many lines of panels a chart has, where each curve has one."""
    return math.ceil(len(chart.curves) / ACROSS)


def _together(chart: Chart, part: SubFigure) -> None:
    """Draw all curves of a chart in one panel."""
    panel = part.subplots()
    lines = []
    for i, curve in enumerate(chart.curves):
        # Side by side, not one over another: lines that coincide are seen.
        shift = 1.035 ** (i - (len(chart.curves) - 1) / 2)
        lines.append(curve.draw(panel, chart.xs, shift, 4.5))
        height = chart.below(0.09 + 0.045 * i)
        if curve.draw_failures(panel, height, shift, 7):
            beside: dict[str, Any] = {"transform": panel.get_yaxis_transform(), "clip_on": False, "markersize": 4}
            panel.plot(1.02, height, **{**curve.look.style, "linestyle": ""}, **beside)
    chart.axes(panel, chart.below(0.1 + 0.045 * len(chart.curves)), 48)
    panel.tick_params(labelsize=9)
    panel.set_xlabel(chart.x_label)
    panel.set_ylabel(chart.y_label)
    panel.set_title(chart.title, fontsize=10, loc="left")
    # Named one by one: a legend that looks for itself leaves out labels that begin with _.
    labels = [wrapped(visible(curve.label), 34) for curve in chart.curves]
    where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.03, 1)}
    panel.legend(lines, labels, frameon=False, fontsize=8, handlelength=3.2, **where)


def _apart(chart: Chart, part: SubFigure) -> None:
    """Draw one panel per curve, with all curves in grey behind."""
    panels = list(part.subplots(_lines(chart), ACROSS, sharex=True, sharey=True, squeeze=False).flat)
    xs = [*chart.xs, math.nan] * len(chart.curves)
    means = [mean for curve in chart.curves for mean in [*curve.means(chart.xs), math.nan]]
    for curve, panel in zip(chart.curves, panels, strict=False):
        panel.plot(xs, means, color="0.85", linewidth=0.6, zorder=1)
        curve.draw(panel, chart.xs, 1, 3.5)
        curve.draw_failures(panel, chart.below(0.11), 1, 6)
        chart.axes(panel, chart.below(0.18), 22)
        panel.tick_params(labelsize=7)
        panel.set_title(wrapped(visible(curve.label), 26), fontsize=7.5, loc="left")
    for panel in panels[len(chart.curves) :]:
        panel.remove()
    for panel in panels[: len(chart.curves)][-ACROSS:]:
        panel.tick_params(labelbottom=True)
    part.suptitle(f"{chart.title}; grey: the other norms", x=0.01, ha="left", fontsize=10)
    part.supxlabel(chart.x_label, fontsize=9)
    part.supylabel(chart.y_label, fontsize=9)


def _labels(xs: list[float], room: int) -> Iterator[str]:
    """Yield a label per x, an empty one where it would run into the last; `room` characters fit along the axis."""
    end = -math.inf
    span = math.log(xs[-1] / xs[0]) or 1.0  # of one x any will do
    for x in xs:
        label = f"{x:g}"
        begin = room * math.log(x / xs[0]) / span - len(label) / 2
        yield label if (fits := begin >= end + 0.5) else ""
        end = begin + len(label) if fits else end


def wrapped(text: str, width: int) -> str:
    """Return a text folded to a width, in three lines at most."""
    return "\n".join(textwrap.wrap(text, width, max_lines=3, placeholder=" …"))
