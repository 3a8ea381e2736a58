"""A table as data: it knows its columns' units and digits, so that no board formats a number."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from normbench.stats import Interval


@dataclass(frozen=True)
class Column:
    """A column. `kind` says how its values are written: numbers with a sign, rates, counts, or text as it is.

    `title` may have two lines; `unit` is "%", "points" (both: shares times 100), "decades", "epochs" or "". `ends` says
    whether its values have a lower and an upper end.
    """

    name: str
    title: str
    unit: str = ""
    digits: int = 1
    better: Literal["up", "down"] | None = None
    kind: Literal["number", "signed", "rate", "text"] = "number"
    ends: bool = False

    @property
    def scale(self) -> float:
        """What a stored value is multiplied by when it is written."""
        return 100.0 if self.unit in ("%", "points") else 1.0


@dataclass(frozen=True)
class Value:
    """One entry: a number with its ends, or a text. `at_least` marks a value that the grid's end cuts off."""

    number: float | None = None
    low: float | None = None
    high: float | None = None
    ends: Literal["t", "order", "min-max", ""] = ""
    at_least: bool = False
    low_at_least: bool = False
    high_at_least: bool = False
    text: str = ""
    mark: str = ""

    @classmethod
    def of(cls, interval: Interval, cut: Set[float] = frozenset()) -> Value:
        """Return an interval as an entry; `cut` are the values that the grid's end cuts off."""
        return cls(
            interval.centre,
            interval.low,
            interval.high,
            interval.kind,
            at_least=interval.centre in cut,
            low_at_least=interval.low in cut,
            high_at_least=interval.high in cut,
        )


@dataclass(frozen=True)
class TableRow:
    """A norm's row, from so many seeds: `flags` are what a program should know besides the numbers."""

    norm: str
    rank: int | None
    seeds: int
    values: dict[str, Value]
    flags: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a table is of: a task, a condition, a protocol, a baseline, a grid of rates."""

    task: str
    task_version: int
    task_params: dict[str, Any]
    condition: dict[str, Any]
    protocol: str
    baseline: str
    rates: list[float]

    @property
    def head(self) -> dict[str, Any]:
        """The fields of a head, to make another that has them."""
        return {field.name: getattr(self, field.name) for field in fields(Head)}


@dataclass(frozen=True, kw_only=True)
class Table(Head):
    """One board of one task and condition."""

    board: str
    columns: list[Column]
    rows: list[TableRow]
    apart: list[tuple[str, str]]
    notes: list[str]

    def __str__(self) -> str:
        from normbench.boards.render import terminal

        return terminal([self])


def flags_of(values: dict[str, Value]) -> list[str]:
    """Return what a program should know of values: which are cut off by the grid, which ends are no interval."""
    cut = [f"{name}:at-least" for name, value in values.items() if value.at_least]
    cut += [f"{name}_low:at-least" for name, value in values.items() if value.low_at_least]
    cut += [f"{name}_high:at-least" for name, value in values.items() if value.high_at_least]
    return cut + [f"{name}:min-max" for name, value in values.items() if value.ends == "min-max"]


def ranks(scores: list[float]) -> list[int]:
    """Return the rank of each score, 1 for the highest; equal scores share a rank."""
    return [1 + sum(other > score for other in scores) for score in scores]
