"""What the charts of a report have in common: how norms look, which are hidden, what is chosen, what is pointed at.

A norm's name is data. It stands in rows and in the domains of scales, in no expression.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from normbench.charts.looks import DASHES, OUTLINES, Look
from normbench.texts import visible

#: Grey that is seen on white and on dark ground.
GREY = "#808080"
#: Parameters of a chart, which the page sets: labels that are not drawn, and the place of the choice.
HIDDEN, CHOICE = "hidden", "choice"
#: What the pointer is nearest to; the other norms step back.
POINTED = "pointed"


class Norms:
    """The norms of a chart, by their labels, as channels: each looks as it does in every picture."""

    def __init__(self, looks: Mapping[str, Look]) -> None:
        self.labels = list(looks)
        self._looks = list(looks.values())

    def colour(self) -> alt.Color:
        """Return the colour of lines, dots and text."""
        return alt.Color("norm:N", scale=self._scale([look.colour for look in self._looks]), legend=None)

    def face(self) -> alt.Fill:
        """Return what markers are filled with."""
        return alt.Fill("norm:N", scale=self._scale([look.face for look in self._looks]), legend=None)

    def fill(self) -> alt.Fill:
        """Return the colour of areas."""
        return alt.Fill("norm:N", scale=self._scale([look.colour for look in self._looks]), legend=None)

    def dash(self) -> alt.StrokeDash:
        """Return the dashes of lines."""
        return alt.StrokeDash("norm:N", scale=self._scale([DASHES[look.line] for look in self._looks]), legend=None)

    def shape(self) -> alt.Shape:
        """Return the outline of markers."""
        return alt.Shape("norm:N", scale=self._scale([OUTLINES[look.marker] for look in self._looks]), legend=None)

    def _scale(self, range_: list[Any]) -> alt.Scale:
        return alt.Scale(domain=self.labels, range=range_)


def opacity(usual: float, pointed: float = 1.0, others: float = 0.12) -> Any:
    """Return how opaque a mark is: as usual, or more where its norm is pointed at, or less where another is."""
    at = {"param": POINTED, "empty": False}
    nothing = {"test": f"!length(data('{POINTED}_store'))"}
    return {"condition": [{**at, "value": pointed}, {**nothing, "value": usual}], "value": others}


def rounded(value: float | None, digits: int = 6) -> float | None:
    """Return a number to so many digits, which the page needs; None where there is no finite one."""
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None


def titled(label: str) -> str:
    """Return the title of a chart from the label of its axis, which may have a unit."""
    name = label.partition(", ")[0]
    return name[:1].upper() + name[1:]


def only(chart: alt.Chart, kind: str) -> alt.Chart:
    """Return a layer of the rows of a kind."""
    layer: alt.Chart = chart.transform_filter(f"datum.kind === '{kind}'")
    return layer


def targets(*channels: Any, tooltip: Sequence[alt.Tooltip]) -> alt.Chart:
    """Return the layer that the pointer meets: of all rows that have a place, the nearest."""
    pointed = alt.selection_point(name=POINTED, fields=["norm"], on="pointerover", nearest=True, clear="pointerout")
    mark = alt.Chart().mark_point(opacity=0, size=100, aria=False)
    layer: alt.Chart = mark.encode(*channels, tooltip=list(tooltip)).add_params(pointed)
    return layer


def spec(layers: Sequence[alt.Chart], *, height: int, description: str, chosen: int | None = None) -> dict[str, Any]:
    """Return the specification of layers; where rows have a `choice`, `chosen` is that which is drawn at first."""
    chart = alt.layer(*layers, data=alt.NamedData("rows")).transform_filter(f"indexof({HIDDEN}, datum.norm) < 0")
    if chosen is not None:
        chart = chart.transform_filter(f"datum.choice === {CHOICE}")
    chart = chart.add_params(alt.param(name=HIDDEN, value=[]), alt.param(name=CHOICE, value=chosen or 0))
    chart = chart.properties(
        width="container",
        height=height,
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        description=visible(description),
    )
    made: dict[str, Any] = chart.to_dict()
    # That of a theme that a notebook may have chosen; the page has its own.
    made.pop("config", None)
    return made
