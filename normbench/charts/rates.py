"""Score against learning rate, drawn with matplotlib: the stability board as a picture."""

from __future__ import annotations

import io
import statistics
from typing import TYPE_CHECKING, Any

from normbench.boards.grid import Grid, Row
from normbench.boards.stability import split_of
from normbench.spelling import assignments
from normbench.texts import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

#: Colours that colour-blind readers tell apart (Okabe & Ito 2008), black first; a marker goes with each.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw(grids: list[Grid], form: str) -> bytes:
    """Draw one panel per grid, and return the picture: "png" or "svg"."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style: dict[Any, Any] = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    # A name with $ is no formula.
    with plt.rc_context({**style, "svg.hashsalt": "normbench", "text.parse_math": False}):
        figure, panels = plt.subplots(
            len(grids), 1, figsize=(7.2, 4.4 * len(grids)), squeeze=False, layout="constrained"
        )
        for grid, (panel,) in zip(grids, panels, strict=True):
            _panel(grid, panel)
        picture = io.BytesIO()
        figure.savefig(picture, format=form, dpi=160, metadata={"Date": None} if form == "svg" else {})
        plt.close(figure)
    return picture.getvalue()


def _panel(grid: Grid, panel: Axes) -> None:
    percent = grid.measure.unit == "%"
    scale, unit = (100.0, "%") if percent else (1.0, grid.measure.unit)
    shown = [score for row in grid.rows for rate in grid.rates for score in _scores(row, rate, scale)]
    lowest, highest = min([*shown, scale * grid.measure.chance]), max([*shown, scale * grid.measure.reference])
    height = highest - lowest
    lines = []
    for i, row in enumerate(grid.rows):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        # Side by side, not one over another: lines that coincide are seen.
        shift = 1.035 ** (i - (len(grid.rows) - 1) / 2)
        lines.append(_curve(grid, row, panel, scale, shift, style))
        _failures(grid, row, panel, lowest - height * (0.09 + 0.045 * i), shift, style["color"])
    panel.set_xscale("log")
    panel.set_xticks(grid.rates, [f"{rate:g}" for rate in grid.rates])
    panel.minorticks_off()
    panel.set_ylim(lowest - height * (0.1 + 0.045 * len(grid.rows)), highest + 0.03 * height)
    panel.set_yticks([tick for tick in panel.get_yticks() if lowest - 0.05 * height <= tick <= highest + 0.03 * height])
    panel.axhline(scale * grid.measure.chance, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "color": "0.35", "fontsize": 8, "va": "center"}
    panel.annotate(" chance", (1, scale * grid.measure.chance), **beside)
    panel.annotate(" ×n: n seeds failed", (1, lowest - height * 0.09), **beside)
    panel.set_xlabel("learning rate")
    panel.set_ylabel(visible(f"{split_of(grid)} {grid.measure.name}, {unit}"))
    named = visible(grid.task + (f", {assignments(grid.condition)}" if grid.condition else ""))
    panel.set_title(f"{named}: mean of {grid.grid_seeds} seeds, one dot per seed", fontsize=10, loc="left")
    # Named one by one: a legend that looks for itself leaves out labels that begin with _.
    labels = [visible(row.label) for row in grid.rows]
    panel.legend(lines, labels, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.6))


def _scores(row: Row, rate: float, scale: float) -> list[float]:
    return [scale * score for result in row.at(rate).values() if (score := result.selection) is not None]


def _curve(grid: Grid, row: Row, panel: Axes, scale: float, shift: float, style: dict[str, Any]) -> Line2D:
    """Draw one dot per seed, and the means; return the line of the means."""
    means = []
    for rate in grid.rates:
        scores = _scores(row, rate, scale)
        means.append(statistics.fmean(scores) if scores else float("nan"))
        faint: dict[str, Any] = {"linestyle": "", "alpha": 0.3, "markersize": 4, "markeredgewidth": 0}
        panel.plot([rate * shift] * len(scores), scores, **faint, **style)
    [line] = panel.plot([rate * shift for rate in grid.rates], means, linewidth=1.4, markersize=4.5, **style)
    return line


def _failures(grid: Grid, row: Row, panel: Axes, height: float, shift: float, colour: str) -> None:
    """Mark below the curves each rate at which seeds failed, with how many."""
    for rate in grid.rates:
        failed = sum(not result.trained for result in row.at(rate).values())
        if failed:
            panel.text(rate * shift, height, f"×{failed}", color=colour, fontsize=7, ha="center", va="center")
