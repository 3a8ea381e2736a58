"""Scores against a value above 0, like the rate: a dot per seed, the means as a line, and how many seeds failed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from normbench.boards.grid import Grid
from normbench.charts.looks import Look
from normbench.spelling import assignments, spelled
from normbench.store.records import Result
from normbench.texts import visible
from normbench.trials import Kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D


def heading(grid: Grid, condition: dict[str, object]) -> str:
    """Return a line that names a grid's task, under a condition."""
    task = spelled(grid.task, grid.task_params)
    return visible(f"{task}{', ' * bool(condition)}{assignments(condition)}")


def digits_of(grid: Grid) -> int:
    """Return how many digits a shown score has after the point."""
    return 1 if grid.measure.unit == "%" else 3


def scale_of(grid: Grid) -> float:
    """Return what a stored score is multiplied by when it is shown."""
    return 100.0 if grid.measure.unit == "%" else 1.0


@dataclass(frozen=True)
class Dot:
    """What a seed gave: its score as it is shown, where its outcome has one. Boards read it where it `counts`."""

    seed: int
    score: float | None
    outcome: Kind
    counts: bool = True

    @classmethod
    def of(cls, seed: int, result: Result, score: float | None, scale: float, *, counts: bool = True) -> Dot:
        """Return a seed's result, by one of its scores."""
        shown = scale * score if result.has_score and score is not None else None
        return cls(seed, shown, result.outcome, counts)


@dataclass(frozen=True)
class Scores:
    """What a norm's seeds gave at each x."""

    label: str
    look: Look
    dots: Mapping[float, list[Dot]]

    @cached_property
    def scores(self) -> Mapping[float, list[float]]:
        """The scores at each x, one per seed."""
        return {x: [dot.score for dot in dots if dot.counts and dot.score is not None] for x, dots in self.dots.items()}

    @cached_property
    def failed(self) -> Mapping[float, int]:
        """How many of these scores at each x are of seeds that failed."""
        counted = {x: [dot for dot in dots if dot.counts and dot.score is not None] for x, dots in self.dots.items()}
        return {x: sum(dot.outcome != "trained" for dot in dots) for x, dots in counted.items()}

    def means(self, xs: list[float]) -> list[float]:
        """Return the mean score at each x, NaN where there is none."""
        return [statistics.fmean(scores) if (scores := self.scores.get(x)) else math.nan for x in xs]

    def draw(self, axes: Axes, xs: list[float], shift: float, size: float) -> Line2D:
        """Draw one dot per seed, and the means with markers of a size; return the line of the means."""
        dots = [(x * shift, score) for x in xs for score in self.scores.get(x, ())]
        faint: dict[str, Any] = {"linestyle": "", "alpha": 0.3, "markersize": size - 0.5, "markeredgewidth": 0}
        axes.plot(*zip(*dots, strict=True), color=self.look.colour, marker=self.look.marker, **faint)
        at = [x * shift for x in xs]
        [line] = axes.plot(at, self.means(xs), linewidth=1.4, markersize=size, **self.look.style)
        return line

    def draw_failures(self, axes: Axes, height: float, shift: float, size: float) -> bool:
        """Write at each x at which seeds failed how many; return whether there are any."""
        style: dict[str, Any] = {"color": self.look.colour, "fontsize": size, "ha": "center", "va": "center"}
        for x, count in self.failed.items():
            if count:
                axes.text(x * shift, height, f"×{count}", **style)
        return any(self.failed.values())


@dataclass(frozen=True)
class ScorePanel:
    """Norms' scores over the same xs, on a logarithmic axis.

    The axis reaches to `chance`, which is a dotted line, and to `reference`. `digits` are those of a score after the
    point.
    """

    x_label: str
    y_label: str
    xs: list[float]
    curves: list[Scores]
    chance: float
    reference: float
    digits: int
    title: str = ""

    def together(self, axes: Axes) -> list[Line2D]:
        """Draw all curves side by side, not one over another: lines that coincide are seen."""
        lines = []
        for i, curve in enumerate(self.curves):
            shift = 1.035 ** (i - (len(self.curves) - 1) / 2)
            lines.append(curve.draw(axes, self.xs, shift, 4.5))
            height = self.below(0.09 + 0.045 * i)
            if curve.draw_failures(axes, height, shift, 7):
                beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False, "markersize": 4}
                axes.plot(1.02, height, **{**curve.look.style, "linestyle": ""}, **beside)
        self._lay_out(axes, self.below(0.1 + 0.045 * len(self.curves)), 48)
        return lines

    def apart(self, axes: Axes, place: int) -> None:
        """Draw one curve, with all curves in grey behind."""
        xs = [*self.xs, math.nan] * len(self.curves)
        means = [mean for curve in self.curves for mean in [*curve.means(self.xs), math.nan]]
        axes.plot(xs, means, color="0.85", linewidth=0.6, zorder=1)
        self.curves[place].draw(axes, self.xs, 1, 3.5)
        self.curves[place].draw_failures(axes, self.below(0.11), 1, 6)
        self._lay_out(axes, self.below(0.18), 22)

    @cached_property
    def lowest(self) -> float:
        """The lower end of what the scores span, with chance and reference."""
        return min([self.chance, self.reference, *self._scores()])

    @cached_property
    def highest(self) -> float:
        """The upper end of that."""
        return max([self.chance, self.reference, *self._scores()])

    def _scores(self) -> Iterator[float]:
        for curve in self.curves:
            for scores in curve.scores.values():
                yield from scores

    def below(self, share: float) -> float:
        """Return a height that lies below the scores, by a share of what these span."""
        return self.lowest - share * (self.highest - self.lowest)

    def _lay_out(self, axes: Axes, bottom: float, room: int) -> None:
        """Lay out the axes down to a height below the scores, with `room` characters along the xs."""
        axes.set_xscale("log")
        axes.set_xticks(self.xs, list(_labels(self.xs, room)))
        axes.minorticks_off()
        highest = self.highest + 0.03 * (self.highest - self.lowest)
        axes.set_ylim(bottom, highest)
        axes.locator_params(axis="y", nbins=8)
        axes.set_yticks([tick for tick in axes.get_yticks() if self.below(0.05) <= tick <= highest])
        axes.axhline(self.chance, color="0.6", linewidth=0.8, linestyle=":", zorder=0)


def _labels(xs: list[float], room: int) -> Iterator[str]:
    """Yield a label per x, an empty one where it would run into the last; `room` characters fit along the axis."""
    end = -math.inf
    span = math.log(xs[-1] / xs[0]) or 1.0  # of one x any will do
    for x in xs:
        label = f"{x:g}"
        begin = room * math.log(x / xs[0]) / span - len(label) / 2
        yield label if (fits := begin >= end + 0.5) else ""
        end = begin + len(label) if fits else end
