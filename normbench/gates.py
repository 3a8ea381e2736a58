"""Gates: which metric may get worse by how much, as `[gate]` of a suite or `--fail` spells it. Words alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from normbench.errors import UsageError, unknown

Unit: TypeAlias = Literal["pt", "", "step", "dec", "%"]


@dataclass(frozen=True)
class Metric:
    """What `compare` compares: which sign a change for the worse has, and the units of its margin.

    `noun` is how messages name it.
    """

    name: str
    worse: Literal["+", "-"]
    units: tuple[Unit, ...]
    noun: str


#: In the order in which they are shown.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "-", ("pt", ""), "accuracy"),
        Metric("over_the_grid", "-", ("pt", ""), "over the grid"),
        Metric("max_trainable_lr", "-", ("step", "dec"), "max trainable lr"),
        Metric("failure_rate", "+", ("pt",), "failure rate"),
        Metric("sensitivity", "+", ("pt", ""), "sensitivity"),
        Metric("throughput", "-", ("%",), "throughput"),
    )
}
_UNITS: dict[Unit, str] = {
    "pt": "0.5pt (percentage points)",
    "": "0.02 (in the score's own unit)",
    "step": "1step (of the grid)",
    "dec": "0.5dec (decades)",
    "%": "10%",
}
_MARGIN = re.compile(r"(?P<sign>[+-]?)\s*(?P<number>\d+\.?\d*|\.\d+)\s*(?P<unit>pts?|%|steps?|dec(?:ades?)?|)")


@dataclass(frozen=True)
class Gate:
    """A metric and its margin, a positive number: shares for "pt" and "%", else as given; `text` as it was spelled."""

    metric: str
    margin: float
    unit: Unit
    text: str

    def __str__(self) -> str:
        return f"{self.metric}:{self.text}"


def gates(table: Mapping[str, str], where: str) -> dict[str, Gate]:
    """Return the gates of a suite's [gate], by metric. Raises UsageError for one that can't be; `where` begins it."""
    return {name: _gate(name, text, f"{where}: {name}") for name, text in table.items()}


def given(texts: Sequence[str]) -> dict[str, str]:
    """Return what --fail METRIC:MARGIN, repeated, says, like a suite's [gate]. Raises UsageError."""
    table: dict[str, str] = {}
    for text in texts:
        name, colon, margin = text.partition(":")
        if not colon:
            raise UsageError(f"--fail {text!r}: write METRIC:MARGIN, as in --fail 'accuracy:-0.5pt'")
        if name.strip() in table:
            raise UsageError(f"--fail names {name.strip()} twice; a metric has one margin")
        table[name.strip()] = margin.strip()
    return table


def _gate(name: str, text: str, where: str) -> Gate:
    if name not in METRICS:
        raise unknown("metric", name, METRICS, where.rpartition(":")[0])
    metric = METRICS[name]
    sign, number, unit = margin(text, where, f"like {metric.worse}{_UNITS[metric.units[0]]}")
    if unit not in metric.units:
        allowed = " or ".join(metric.worse + _UNITS[unit] for unit in metric.units)
        raise UsageError(f"{where} is {text!r}; its margin is like {allowed}")
    if sign != metric.worse:
        way = "falls" if metric.worse == "-" else "rises"
        raise UsageError(f"{where} is {text!r}; it gets worse as it {way}: write {metric.worse}{text.lstrip('+-')}")
    if unit == "step" and number != round(number):
        raise UsageError(f"{where} is {text!r}; steps of the grid are whole")
    if unit == "%" and number >= 1:
        raise UsageError(f"{where} is {text!r}; it can't fall by 100% or more")
    return Gate(name, number, unit, text)


def margin(text: str, where: str, like: str) -> tuple[str, float, Unit]:
    """Return a margin's sign, its number above 0 (a share where it is in points or per cent), and its unit."""
    match = _MARGIN.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or not match["sign"] or not 0 < float(match["number"]) < math.inf:
        raise UsageError(f"{where} is {text!r}; a margin is a sign, a number above 0 and a unit, {like}")
    spelled = match["unit"]
    unit: Unit = "%" if spelled == "%" else "pt" if spelled[:2] == "pt" else "step" if spelled[:4] == "step" else ""
    if spelled.startswith("dec"):
        unit = "dec"
    number = float(match["number"])
    return match["sign"], number / 100 if unit in ("pt", "%") else number, unit
