"""Scores of seeds against the rate, or against a recipe value: the mean of each norm as a line, one dot per seed."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from normbench.charts.panels import TOGETHER
from normbench.charts.scores import Dot, ScorePanel, Scores
from normbench.report.chart import Chart, Numbers
from normbench.report.charts.layers import LINE, Norms, layer, rounded, rule, spec, targets, titled

#: Pixels of the scores, and of the line below them in which a norm's failures stand; of many norms it is narrow.
_HEIGHT, _LINE, _NARROW = 290, 12, 6
#: So many seeds are named; of more there are counts.
_NAMED = 4


def chart(panel: ScorePanel, where: str, at: str = "") -> Chart:
    """Return a panel as a chart; `where` names what it is of, and `at` which scores they are."""
    lost = [curve for curve in panel.curves if any(map(_lost, curve.dots.values()))]
    unit = (panel.highest - panel.lowest) / _HEIGHT or 1.0
    # A norm's failures have a line of their own below the scores, so that no count covers another.
    line = unit * (_NARROW if len(panel.curves) > TOGETHER else _LINE)
    lines = {curve.label: panel.lowest - 10 * unit - line * (i + 0.5) for i, curve in enumerate(lost)}
    bottom, top = panel.lowest - 12 * unit - line * len(lost), panel.highest
    rows = [
        row
        for place, curve in enumerate(panel.curves)
        for row in _rows(panel, curve, place, lines.get(curve.label, bottom))
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    counts = "× marks that seeds" if len(panel.curves) > TOGETHER else "×n counts seeds that"
    how = (
        f"Each line is a norm's mean over seeds{' ' * bool(at)}{at}, each dot one seed; dotted: chance. Below the "
        f"scores {counts} diverged, did not train or gave no score; the mean has those with a score."
    )
    title = f"{titled(panel.y_label)} against {panel.x_label}"
    description = f"{title}, {where}: a line for each of {len(panel.curves)} norms."
    return Chart(
        title=title,
        how=how,
        spec=spec(
            list(_layers(panel, bottom, top + 8 * unit)),
            height=round((top - bottom) / unit) + 60,
            description=description,
        ),
        columns=columns,
        table=_table(panel),
    )


def _lost(dots: Sequence[Dot]) -> list[Dot]:
    """Return the seeds that failed, those that have no score too."""
    return [dot for dot in dots if dot.outcome != "trained"]


def _rows(panel: ScorePanel, curve: Scores, place: int, line: float) -> Iterator[dict[str, Any]]:
    """Yield what is drawn of a norm: each seed, the mean at each x, and how many seeds failed there."""
    of_all = len(panel.curves)
    shift = _step(panel.xs, of_all) ** (place - (of_all - 1) / 2)
    for x in panel.xs:
        dots = curve.dots.get(x, [])
        common = {"norm": curve.label, "line": place, "x": x, "at": rounded(x * shift)}
        for dot in dots:
            score = rounded(dot.score)
            outcome = dot.outcome if dot.counts else f"{dot.outcome}; counts once its seed has all rates"
            yield {**common, "kind": "seed", "y": score, "score": score, "seeds": f"{dot.seed}", "outcome": outcome}
        if scores := curve.scores.get(x):
            mean = rounded(statistics.fmean(scores))
            yield {
                **common,
                "kind": "mean",
                "y": mean,
                "score": mean,
                "seeds": f"mean of {len(scores)}",
                "outcome": _counted(dots),
            }
        if lost := _lost(dots):
            yield {
                **common,
                "kind": "failed",
                "y": rounded(line),
                "score": None,
                "seeds": f"{len(lost)} of {len(dots)}",
                "outcome": _counted(lost),
            }


def _counted(dots: Sequence[Dot]) -> str:
    """Return outcomes with their seeds, or how many there are of each."""
    seeds: dict[str, list[int]] = {}
    for dot in dots:
        seeds.setdefault(dot.outcome, []).append(dot.seed)
    if len(seeds) == 1 or len(dots) > _NAMED:
        return ", ".join(f"{len(of_kind)} {outcome}" for outcome, of_kind in seeds.items())
    return ", ".join(f"{outcome}: {', '.join(map(str, of_kind))}" for outcome, of_kind in seeds.items())


def _step(xs: Sequence[float], norms: int) -> float:
    """Return by what factor two norms stand beside each other, so that lines that coincide are seen."""
    nearest = min((b / a for a, b in itertools.pairwise(sorted(xs))), default=2.0)
    return float(min(1.03, nearest ** (0.4 / norms)))


def _layers(panel: ScorePanel, bottom: float, top: float) -> Iterator[alt.UnitSpec]:
    norms = Norms({curve.label: curve.look for curve in panel.curves})
    many = len(panel.curves) > TOGETHER
    beside = max(1.3, (max(panel.xs) / min(panel.xs)) ** 0.05)
    at = alt.X(
        "at:Q",
        title=panel.x_label,
        scale=alt.Scale(type="log", domain=[min(panel.xs) / beside, max(panel.xs) * beside], nice=False),
        axis=alt.Axis(values=panel.xs, format="~g", grid=False, labelOverlap="greedy", labelSeparation=6),
    )
    below = f"datum.value < {panel.lowest!r}"
    not_below: dict[str, Any] = {"condition": {"test": below, "value": 0}, "value": 1}
    height = alt.Y(
        "y:Q",
        title=panel.y_label,
        scale=alt.Scale(domain=[bottom, top], nice=False, zero=False),
        axis=alt.Axis(grid=True, labelExpr=f"{below} ? '' : datum.label", gridOpacity=not_below, tickOpacity=not_below),
    )
    place: dict[str, Any] = {"x": at, "y": height}
    drawn: dict[str, Any] = {**place, "color": norms.colour()}
    markers: dict[str, Any] = {**drawn, "shape": norms.shape()}
    line: dict[str, Any] = {"strokeWidth": 1.2 if many else 1.8}
    opaque = (0.6 if many else 1, 1, 0.12)
    yield rule(y=alt.YDatum(panel.chance, type="quantitative"))
    dots = {"filled": True, "size": 16 if many else 28}
    yield layer("point", dots, kind="seed", opaque=(0.15 if many else 0.35, 0.7, 0.05), **markers)
    yield layer("line", line, kind="mean", opaque=opaque, strokeDash=norms.dash(), detail=LINE, **drawn)
    marker = {"size": 30 if many else 55, "strokeWidth": 1.2}
    yield layer("point", marker, kind="mean", opaque=opaque, fill=norms.face(), **markers)
    # Of many norms a count would be too small to read: it is told.
    text = {"text": "'×'" if many else "'×' + split(datum.seeds, ' ')[0]"}
    yield layer("text", {"fontSize": 10}, kind="failed", calculate=text, text=alt.Text("text:N"), **drawn)
    yield targets(
        {"norm": "norm", panel.x_label: "where", "seed": "seeds", panel.y_label: "shown", "outcome": "outcome"},
        only="isValid(datum.y)",
        calculate={
            "where": "format(datum.x, '~g')",
            "shown": f"isValid(datum.score) ? format(datum.score, '.{panel.digits + 1}f') : 'no score'",
        },
        **place,
    )


def _table(panel: ScorePanel) -> Numbers:
    """Return each norm's mean at each x, the lowest and the highest seed, and how many seeds failed."""
    return Numbers(
        headers=["norm", *(f"{panel.x_label} {x:g}" for x in panel.xs)],
        rows=[[curve.label, *(_cell(panel, curve, x) for x in panel.xs)] for curve in panel.curves],
    )


def _cell(panel: ScorePanel, curve: Scores, x: float) -> str:
    dots, scores = curve.dots.get(x, []), curve.scores.get(x, [])
    if not dots:
        return "-"
    numbers = [statistics.fmean(scores), min(scores), max(scores)] if scores else []
    mean, *ends = (f"{number:.{panel.digits}f}" for number in numbers) if numbers else ("no score",)
    spread = f" ({'…'.join(ends)})" * (len(scores) > 1)
    lost = len(_lost(dots))
    return f"{mean}{spread}" + f", {lost} of {len(dots)} failed" * bool(lost)
