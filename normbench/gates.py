"""Gates: which metric may get worse by how much, as `[gate]` of a suite or `--fail` spells it. Spelling alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from normbench.errors import UsageError, unknown

Sign: TypeAlias = Literal["+", "-"]
Unit: TypeAlias = Literal["pt", "", "step", "dec", "%"]


@dataclass(frozen=True)
class Metric:
    """A metric's names, the sign of a change for the worse, and the units that its margin may have.

    `noun` is how messages name it; `alias` is its column on a board, where that has another name.
    """

    name: str
    noun: str
    worse: Sign
    units: tuple[Unit, ...]
    alias: str = ""


SENSITIVITY = Metric("sensitivity", "sensitivity", "+", ("pt", ""))
THROUGHPUT = Metric("throughput", "throughput", "-", ("%",))
#: In the order in which they are shown. All but the throughput are values of trials: `compare/metrics.py` has these.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", "-", ("pt", "")),
        Metric("over_the_grid", "over the grid", "-", ("pt", "")),
        Metric("max_trainable_lr", "max trainable lr", "-", ("step", "dec"), alias="trains_up_to"),
        Metric("failure_rate", "failure rate", "+", ("pt",)),
        SENSITIVITY,
        THROUGHPUT,
    )
}
_ALIASES = {metric.alias: name for name, metric in METRICS.items() if metric.alias}
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
    checked: dict[str, Gate] = {}
    for name, text in table.items():
        metric = _ALIASES.get(name, name)
        if metric in checked:
            raise UsageError(f"{where} names {metric} twice; a metric has one margin")
        checked[metric] = _gate(metric, text, f"{where}: {name}")
    return checked


def replaced(declared: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the margins that a suite declares, with those that are given in their place."""
    return {_ALIASES.get(name, name): text for table in (declared, given) for name, text in table.items()}


def given(texts: Sequence[str]) -> dict[str, str]:
    """Return the options --fail METRIC:MARGIN as a table, like a suite's [gate]. Raises UsageError."""
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
        raise unknown("metric", name, [*METRICS, *_ALIASES], where.rpartition(":")[0])
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


def margin(text: str, where: str, like: str) -> tuple[Sign, float, Unit]:
    """Return a margin's sign, its number above 0 (a share where it is in points or per cent), and its unit."""
    match = _MARGIN.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or not match["sign"] or not 0 < float(match["number"]) < math.inf:
        raise UsageError(f"{where} is {text!r}; a margin is a sign, a number above 0 and a unit, {like}")
    unit: Unit = next((unit for unit in _UNITS if unit and match["unit"].startswith(unit)), "")
    number = float(match["number"])
    sign: Sign = "+" if match["sign"] == "+" else "-"
    return sign, number / 100 if unit in ("pt", "%") else number, unit
