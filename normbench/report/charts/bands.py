"""Curves by step or place: of each norm a line, the mean over its seeds, in a band; one panel at a time is drawn."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from normbench.charts.bands import Band, BandPanel, Scale
from normbench.charts.panels import TOGETHER
from normbench.report.chart import Chart, Numbers
from normbench.report.charts.layers import LINE, Norms, layer, rounded, spec, targets

_HEIGHT = 300
#: Up to so many decades have ticks within.
_FINE = 4
#: So few steps have a tick each: Vega would have some between them.
_FEW = 10


def chart(
    panels: Sequence[tuple[str, BandPanel]], what: str, where: str, how: str, *, chooses: str = "", left_out: str = ""
) -> Chart:
    """Return panels of one quantity as a chart, each with its name among those of `chooses`; the first is drawn.

    `what` names the quantity, and `where` the task and condition that it is of.
    """
    looks = {band.norm: band.look for _, panel in panels for band in panel.curves}
    lines = {norm: line for line, norm in enumerate(looks)}
    rows = [
        row
        for choice, (_, panel) in enumerate(panels)
        for band in panel.curves
        for row in _rows(band, choice, lines[band.norm])
    ]
    first, several = panels[0][1], len(panels) > 1
    title = f"{what} by {first.x_label}"
    return Chart(
        title=title,
        how=how,
        spec=spec(
            list(_layers(first, Norms(looks), [row["x"] for row in rows])),
            height=_HEIGHT,
            description=f"{title}, {where}: a line for each of {len(looks)} norms.",
            choices=True,
        ),
        columns={name: [row[name] for row in rows] for name in rows[0]},
        table=_table(panels, list(looks)),
        chooses=chooses if several else "",
        choices=[name for name, _ in panels] if several else (),
        left_out=left_out,
    )


def _rows(band: Band, choice: int, line: int) -> Iterator[dict[str, Any]]:
    """Yield the mean at each x with its band, and where seeds diverged how many did."""
    common = {"choice": choice, "norm": band.norm, "line": line, "rate": band.rate}
    for x, mean, low, high in zip(band.xs, band.means, band.low, band.high, strict=True):
        ends = {"low": rounded(low, 4), "high": rounded(high, 4)}
        yield {**common, "x": x, "y": rounded(mean, 5), **ends, "lost": 0}
    for end, lost in Counter(band.ends).items():
        if (at := bisect_right(band.xs, end) - 1) >= 0:
            y = rounded(band.means[at], 5)
            yield {**common, "x": band.xs[at], "y": y, "low": None, "high": None, "lost": lost}


def _layers(panel: BandPanel, norms: Norms, xs: Sequence[int]) -> Iterator[alt.UnitSpec]:
    many, scale = len(norms.labels) > TOGETHER, panel.scale
    at = _across(panel.x_label, min(xs), max(xs))
    # Of a probe's series the name: the title has its parameters.
    name = panel.y_label.rpartition(": ")[2]
    height = alt.Y(
        "drawn:Q",
        title=name,
        scale=alt.Scale(type="log" if scale.log else "linear", domain=[scale.low, scale.high], nice=False),
        axis=alt.Axis(**_ticks(scale), labelOverlap="greedy", grid=True),
    )
    colour = norms.colour()
    yield layer(
        "area",
        {"clip": True},
        # Of a line that has left the axis no band is to be seen.
        only=f"!datum.lost && datum.y <= {scale.high!r}",
        calculate={"floor": _within("low", scale), "ceiling": _within("high", scale)},
        opaque=(max(0.03, min(0.15, 0.6 / len(norms.labels))), 0.25, 0.02),
        x=at, y=alt.Y("floor:Q"), y2=alt.Y2("ceiling:Q"), color=colour, detail=LINE,
    )  # fmt: skip
    yield layer(
        "line",
        {"clip": True, "strokeWidth": 1.2 if many else 1.6},
        only="!datum.lost",
        calculate={"drawn": _within("y", scale)},
        opaque=(0.7 if many else 1, 1, 0.12),
        x=at, y=height, color=colour, strokeDash=norms.dash(), detail=LINE,
    )  # fmt: skip
    seen = {"drawn": _within("y", scale, beyond=0)}
    cross = {"text": "×", "fontSize": 16}
    yield layer("text", cross, only="datum.lost", calculate=seen, x=at, y=height, color=colour)
    yield targets(
        {"norm": "norm", "rate": "trained", panel.x_label: "x", name: "shown", "band": "band"},
        only="isValid(datum.y)",
        calculate={
            **seen,
            "trained": "isValid(datum.rate) ? format(datum.rate, '~g') : 'as chosen'",
            "shown": "format(datum.y, '.4~g')",
            "band": "datum.lost ? 'ends here: ' + datum.lost + ' diverged' : "
            "format(datum.low, '.4~g') + ' … ' + format(datum.high, '.4~g')",
        },
        x=at,
        y=height,
    )


def _ticks(scale: Scale) -> dict[str, Any]:
    """Return where an axis has ticks: a logarithmic one at 1, 2 and 5 of each decade, or of many decades at 1 alone.

    Vega's own would have a line for each digit, and numbers such as 8e+1.
    """
    if not scale.log:
        return {"tickCount": 6}
    decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)))
    digits = (1, 2, 5) if len(decades) <= _FINE else (1,)
    ticks = [float(f"{digit}e{decade}") for decade in (*decades, decades.stop) for digit in digits]
    inside = [tick for tick in ticks if scale.low <= tick <= scale.high]
    # Vega thins values that are more than its count.
    return {"values": inside, "tickCount": len(inside), "format": ".6~g"} if len(inside) > 1 else {"format": ".6~g"}


def _across(label: str, first: int, last: int) -> alt.X:
    """Return the horizontal axis, with room either side of one step alone."""
    if first == last:
        ends, axis = [first - 0.5, last + 0.5], alt.Axis(values=[first], grid=False)
    elif last - first <= _FEW:
        ends, axis = [first, last], alt.Axis(values=list(range(first, last + 1)), format="d", grid=False)
    else:
        ends, axis = [first, last], alt.Axis(grid=False, labelOverlap="parity", labelSeparation=8)
    return alt.X("x:Q", title=label, scale=alt.Scale(domain=ends, nice=False), axis=axis)


def _within(field: str, scale: Scale, *, beyond: float = 0.5) -> str:
    """Return the expression of a height that is not further beyond the axis than a share of it.

    What is further would not be seen, and a logarithm has no place for the lower end of an interval that is below 0.
    """
    low, high = (math.log(scale.low), math.log(scale.high)) if scale.log else (scale.low, scale.high)
    room = beyond * (high - low)
    least, most = (math.exp(end) if scale.log else end for end in (low - room, high + room))
    return f"isValid(datum.{field}) ? clamp(datum.{field}, {least!r}, {most!r}) : null"


def _table(panels: Sequence[tuple[str, BandPanel]], norms: Sequence[str]) -> Numbers:
    """Return where each norm's line begins, is in the middle and ends; of several panels where it ends in each."""
    bands = [{band.norm: band for band in panel.curves} for _, panel in panels]
    x = panels[0][1].x_label
    if len(panels) > 1:
        headers = ["norm", *(f"last, {name}" for name, _ in panels)]
        return Numbers(headers, [[norm, *(_points(of.get(norm), x)[-1] for of in bands)] for norm in norms])
    headers = ["norm", "first", "in the middle", "last"]
    return Numbers(headers, [[norm, *_points(bands[0].get(norm), x)] for norm in norms])


def _points(band: Band | None, x: str) -> list[str]:
    """Return three means of a line, the last with how many seeds diverged."""
    finite = [at for at, mean in enumerate(band.means) if math.isfinite(mean)] if band else []
    if band is None or not finite:
        return ["-"] * 3
    places = finite[0], finite[len(finite) // 2], finite[-1]
    first, middle, last = (f"{band.means[at]:.4g} at {x} {band.xs[at]}" for at in places)
    return [first, middle, last + f", {len(band.ends)} diverged" * bool(band.ends)]
