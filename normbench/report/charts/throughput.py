"""How fast each norm trains beside the baseline: the ratio as a dot in its 95% interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from normbench.boards.sessions import Sessions
from normbench.charts.looks import Look
from normbench.report.chart import Chart, Numbers
from normbench.report.charts.layers import Norms, layer, rounded, rule, spec, targets
from normbench.tables.table import Subject
from normbench.texts import visible

#: Pixels of a norm.
_LINE = 22
#: Pixels that a name may take: a good part of a wide chart.
_NAME = "max(150, 0.4 * containerSize()[0])"


def chart(sessions: Sessions, styles: Mapping[str, Look]) -> Chart | None:
    """Return the ratios of one table's sessions as a chart, the fastest first; None where nothing was measured."""
    figures = sorted(sessions.figures.items(), key=lambda item: -item[1].ratio.centre)
    if not figures:
        return None
    norms = {one.timing.label: styles[norm] for norm, one in figures}
    ratios = [one.ratio for _, one in figures]
    speeds = [one.train_samples_per_s for _, one in figures]
    baseline = visible(sessions.baseline)
    where = Subject.of(sessions.latest, sessions.baseline).where
    ratio = f"training speed, as a ratio to {baseline}"
    return Chart(
        title="Throughput",
        how=f"A dot is a norm's training speed over that of {baseline}: the median over rounds, in its 95% interval.",
        spec=spec(
            _layers(Norms(norms), ratio),
            height=_LINE * len(norms) + 60,
            labels=list(map(visible, norms)),
            description=f"Throughput, {where}: {ratio}, a dot for each of {len(norms)} norms.",
        ),
        columns={
            "norm": list(norms),
            "line": list(range(len(norms))),
            "ratio": [rounded(one.centre) for one in ratios],
            "low": [rounded(one.low) for one in ratios],
            "high": [rounded(one.high) for one in ratios],
            "speed": [rounded(speed) for speed in speeds],
        },
        table=Numbers(
            ["norm", f"ratio to {baseline}", "95% interval", "training samples/s"],
            [
                [label, f"{one.centre:.3f}", f"{one.low:.3f}…{one.high:.3f}", f"{speed:,.0f}"]
                for label, one, speed in zip(norms, ratios, speeds, strict=True)
            ],
        ),
    )


def _layers(norms: Norms, ratio: str) -> list[alt.UnitSpec]:
    at = alt.X(
        "ratio:Q",
        title=ratio,
        scale=alt.Scale(zero=False, nice=False, padding=12),
        axis=alt.Axis(tickCount=8, labelOverlap="parity", labelSeparation=8),
    )
    # By its place and not by its name: a tick called __proto__ would be none.
    axis = alt.Axis(labelExpr="labels[datum.value]", labelLimit=alt.ExprRef(_NAME), ticks=False, domain=False)
    norm = alt.Y("line:O", title=None, axis=axis)
    colour = norms.colour()
    dots: dict[str, Any] = {"x": at, "y": norm, "color": colour, "fill": norms.face(), "shape": norms.shape()}
    return [
        rule(x=alt.XDatum(1, type="quantitative")),
        layer("rule", {"strokeWidth": 2}, x=alt.X("low:Q"), x2=alt.X2("high:Q"), y=norm, color=colour),
        layer("point", {"size": 70, "strokeWidth": 1.5}, **dots),
        targets(
            {"norm": "norm", "ratio": "times", "95% interval": "interval", "training samples/s": "samples"},
            calculate={
                "times": "format(datum.ratio, '.3f')",
                "interval": "format(datum.low, '.3f') + ' … ' + format(datum.high, '.3f')",
                "samples": "format(datum.speed, ',.0f')",
            },
            x=at,
            y=norm,
        ),
    ]
