"""Curves by step or place: of each norm a line, the mean over its seeds, in a band that says how these spread."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normbench.charts.looks import Look
from normbench.stats.intervals import mean_over_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

#: About as many markers stand along a line.
_MARKERS = 8


@dataclass(frozen=True)
class Seed:
    """What one training gave by step or place, and whether it diverged; it ends with its last value that is finite."""

    values: Mapping[int, float]
    diverged: bool = False

    @property
    def ends(self) -> int:
        """Where the last finite value is; -1 where there is none."""
        return max((x for x, value in self.values.items() if math.isfinite(value)), default=-1)


@dataclass(frozen=True)
class Band:
    """A norm's mean over seeds at each step or place, and the ends of its band; `ends` are where seeds diverged.

    `rate` is that of its seeds, where the norms of a panel have rates of their own.
    """

    norm: str
    look: Look
    xs: list[int]
    means: list[float]
    low: list[float]
    high: list[float]
    ends: list[int]
    rate: float | None = None

    @property
    def label(self) -> str:
        """The norm, and its rate."""
        return self.norm if self.rate is None else f"{self.norm}, rate\u00a0{self.rate:g}"

    @classmethod
    def of(cls, norm: str, look: Look, seeds: Sequence[Seed], *, interval: bool, rate: float | None = None) -> Band:
        """Return the band of seeds: the 95% t interval of the mean, or else their min-max.

        The mean is of the seeds that have not ended. Where one of these has no value, the mean is left out: a training
        that diverged may end between the steps at which the others have values.
        """
        began = [(min(seed.values), seed.ends, seed.values) for seed in seeds if seed.values]
        xs, bands = [], []
        for x in sorted({x for seed in seeds for x in seed.values}):
            going = [values.get(x) for first, last, values in began if first <= x <= last]
            values = [value for value in going if value is not None]
            if values and len(values) == len(going):
                finite = [value for value in values if math.isfinite(value)]
                mean = mean_over_seeds(finite, least=2 if interval else len(finite) + 1) if finite else None
                xs.append(x)
                bands.append((mean.centre, mean.low, mean.high) if mean else (math.nan,) * 3)
        means, low, high = (list(column) for column in zip(*bands, strict=True)) if bands else ([], [], [])
        ends = sorted(seed.ends for seed in seeds if seed.diverged)
        return cls(norm, look, xs, means, low, high, ends, rate)

    def draw(self, axes: Axes, offset: float, size: float) -> Line2D:
        """Draw the band, the mean with markers of a size, and a cross where a seed ends; return the line.

        `offset`, from 0 to 1, moves the markers along the line, so that those of lines that coincide are seen.
        """
        axes.fill_between(self.xs, self.low, self.high, color=self.look.colour, alpha=0.15, linewidth=0, zorder=1.5)
        width = 1.4 if len(self.xs) <= 50 else 1.0
        every: dict[str, Any] = {"markevery": self._marked(offset), "linewidth": width, "markersize": size}
        [line] = axes.plot(self.xs, self.means, **every, **self.look.style)
        at = [i for end in self.ends if (i := bisect_right(self.xs, end) - 1) >= 0]
        if at:
            lowest, highest = axes.get_ylim()
            heights = [min(max(self.means[i], lowest), highest) for i in at]
            cross: dict[str, Any] = {"linestyle": "", "marker": "x", "markersize": size + 2, "markeredgewidth": 1.6}
            axes.plot([self.xs[i] for i in at], heights, color=self.look.colour, zorder=3, clip_on=False, **cross)
        return line

    def _marked(self, offset: float) -> list[int]:
        """Return which points have a marker: some that are about as far from each other."""
        if len(self.xs) <= _MARKERS:
            return list(range(len(self.xs)))
        first, last = self.xs[0], self.xs[-1]
        wanted = [first + (last - first) * (i + offset) / _MARKERS for i in range(_MARKERS)]
        return sorted({bisect_right(self.xs, x) - 1 for x in wanted})


@dataclass(frozen=True)
class Scale:
    """A vertical axis: its ends, and whether it is logarithmic."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(
        cls, seeds: Iterable[Seed], bands: Iterable[Band], limit: float = math.inf, *, linear: bool = False
    ) -> Scale:
        """Return the scale of all panels with these: logarithmic where every value is above 0, over two decades.

        Values that are not below `limit` are cut off, and so is what a few points reach far beyond all others.
        """
        values = [value for seed in seeds for value in seed.values.values() if abs(value) < limit]
        drawn = [value for band in bands for value in (*band.means, *band.low, *band.high) if abs(value) < limit]
        log = not linear and min(values) > 0 and max(values) > 100 * min(values)
        points = sorted(math.log10(value) if log else value for value in drawn if value > 0 or not log)
        lowest, *_, highest = statistics.quantiles(points, n=20)
        reach = highest - lowest
        far = reach * (3 if log else 30)
        low = points[0] if lowest - points[0] <= far else lowest - reach
        high = points[-1] if points[-1] - highest <= far else highest + reach
        room = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
        low, high = low - room, high + room
        return cls(10**low, 10**high, log) if log else cls(low, high, log)


@dataclass(frozen=True)
class BandPanel:
    """Norms' curves by step or place, on a scale that other panels may share.

    `only` is the one step or place that all panels beside have, where it is one.
    """

    title: str
    y_label: str
    curves: list[Band]
    scale: Scale
    x_label: str
    only: int | None

    def together(self, axes: Axes) -> list[Line2D]:
        """Draw all curves."""
        self._lay_out(axes, self.curves)
        return [curve.draw(axes, (i + 0.5) / len(self.curves), 4.5) for i, curve in enumerate(self.curves)]

    def apart(self, axes: Axes, place: int) -> None:
        """Draw one curve, with the means of all in grey behind."""
        self._lay_out(axes, [self.curves[place]])
        for curve in self.curves:
            axes.plot(curve.xs, curve.means, color="0.85", linewidth=0.6, zorder=1)
        self.curves[place].draw(axes, 0.5, 3.5)

    def _lay_out(self, axes: Axes, shown: Sequence[Band]) -> None:
        """Lay out the axes, with how many seeds of each curve diverged in a key, where there is most room."""
        from matplotlib.lines import Line2D

        axes.set_ylim(self.scale.low, self.scale.high)
        if self.only is None:
            axes.locator_params(axis="x", integer=True)
        else:
            axes.set_xlim(self.only - 0.5, self.only + 0.5)
            axes.set_xticks([self.only])
        if self.scale.log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
        if lost := [curve for curve in shown if curve.ends]:
            marks = [Line2D([], [], markersize=4, **{**curve.look.style, "linestyle": ""}) for curve in lost]
            counts = [f"×{len(curve.ends)}" for curve in lost]
            # In a frame: beside the crosses of other curves it would read as theirs.
            small: dict[str, Any] = {"fontsize": 7, "handlelength": 1, "handletextpad": 0.3, "borderpad": 0.3}
            axes.legend(marks, counts, loc="best", **small)
