"""What the charts of a report have in common: how norms look, which are hidden, what is chosen, what is pointed at.

A norm's name is data. It stands in rows and in the domains of scales, in no expression.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt

from normbench.charts.looks import DASHES, OUTLINES, Look
from normbench.texts import visible

#: Grey that is seen on white and on dark ground.
GREY = "#808080"
#: Parameters of a chart, which the page sets: labels that are not drawn, and the place of the choice.
HIDDEN, CHOICE = "hidden", "choice"
#: The norm that the pointer is nearest to; the others step back.
POINTED = "pointed"
#: Keeps the rows apart that a line or an area joins: with the norm's name alone, one called __proto__ would be none.
LINE = alt.Detail("line:N")


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

    def dash(self) -> alt.StrokeDash:
        """Return the dashes of lines."""
        return alt.StrokeDash("norm:N", scale=self._scale([DASHES[look.line] for look in self._looks]), legend=None)

    def shape(self) -> alt.Shape:
        """Return the outline of markers."""
        return alt.Shape("norm:N", scale=self._scale([OUTLINES[look.marker] for look in self._looks]), legend=None)

    def _scale(self, range_: list[Any]) -> alt.Scale:
        return alt.Scale(domain=self.labels, range=range_)


def layer(
    mark: Literal["area", "line", "point", "rule", "text"],
    style: Mapping[str, Any],
    *,
    kind: str = "",
    only: str = "",
    calculate: Mapping[str, str] | None = None,
    opaque: tuple[float, float, float] = (1, 1, 0.12),
    **channels: Any,
) -> alt.UnitSpec:
    """Return a layer of the rows of a `kind`, `only` those of which an expression is true, with fields calculated.

    `opaque` says how much so it is as usual, where its norm is pointed at, and where another is.
    """
    usual, pointed, others = opaque
    by_pointer = {
        "condition": [
            {"param": POINTED, "empty": False, "value": pointed},
            {"test": f"!length(data('{POINTED}_store'))", "value": usual},
        ],
        "value": others,
    }
    return alt.UnitSpec(
        # The chart is described as a whole: thousands of marks that speak would be no help.
        mark=alt.MarkDef(type=mark, aria=False, **style),
        transform=_transforms(kind, only, calculate or {}),
        encoding=alt.FacetedEncoding(opacity=by_pointer, **channels),
    )


def _transforms(kind: str, only: str, calculate: Mapping[str, str]) -> list[alt.Transform]:
    filters = [f"datum.kind === '{kind}'"] * bool(kind) + [only] * bool(only)
    return [
        *map(alt.FilterTransform, filters),
        *(alt.CalculateTransform(calculate=value, **{"as": name}) for name, value in calculate.items()),
    ]


def rule(**channels: Any) -> alt.UnitSpec:
    """Return a dotted line across the chart, which belongs to no norm."""
    return alt.UnitSpec(
        data=alt.sequence(1),
        mark=alt.MarkDef(type="rule", aria=False, color=GREY, strokeDash=[1, 3]),
        encoding=alt.FacetedEncoding(**channels),
    )


def targets(says: Mapping[str, str], *, only: str = "", calculate: Mapping[str, str], **place: Any) -> alt.UnitSpec:
    """Return the layer that the pointer meets: of all rows the nearest, whose norm it points at.

    `says` are the fields that are told of it, by what they are called.
    """
    # What is met is the cell around a point, whose datum is the point, whose datum is the row. Vega-Lite's own tooltip
    # knows that for numbers alone.
    fields = (f"{json.dumps(visible(name))}: (datum.datum || datum).{field}" for name, field in says.items())
    pointed = alt.PointSelectionConfig(
        type="point", fields=["norm"], on="pointerover", nearest=True, clear="pointerout"
    )
    return alt.UnitSpec(
        mark=alt.MarkDef(
            type="point", aria=False, opacity=0, size=100, tooltip=alt.ExprRef(f"{{{', '.join(fields)}}}")
        ),
        transform=_transforms("", only, calculate),
        encoding=alt.FacetedEncoding(**place),
        params=[alt.SelectionParameter(name=POINTED, select=pointed)],
    )


def spec(
    layers: Sequence[alt.UnitSpec], *, height: int, description: str, choices: bool = False, **params: Any
) -> dict[str, Any]:
    """Return the specification of layers; with `choices` rows have a `choice`, and those of the first are drawn.

    `params` are what its expressions know besides.
    """
    filters = [f"indexof({HIDDEN}, datum.norm) < 0"] + [f"datum.choice === {CHOICE}"] * choices
    known = {HIDDEN: [], CHOICE: 0, **params}
    whole = alt.TopLevelLayerSpec(
        data=alt.NamedData("rows"),
        transform=list(map(alt.FilterTransform, filters)),
        layer=list(layers),
        params=[alt.VariableParameter(name=name, value=value) for name, value in known.items()],
        width="container",
        height=height,
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        description=visible(description),
    )
    made: dict[str, Any] = whole.to_dict(validate=False)
    return made


def rounded(value: float | None, digits: int = 6) -> float | None:
    """Return a number to so many digits, which the page needs; None where there is no finite one."""
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None


def titled(label: str) -> str:
    """Return the title of a chart from the label of its axis, which ends with a unit."""
    name = label.rpartition(", ")[0] or label
    return name[:1].upper() + name[1:]
