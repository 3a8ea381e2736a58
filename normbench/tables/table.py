"""A table as data: it knows its columns' units and digits, so that no board formats a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from normbench.spelling import assignments, spelled
from normbench.stats.intervals import Interval
from normbench.trials import OfTable, id_of_table


@dataclass(frozen=True)
class Column:
    """A column. `kind` says how its values are written: numbers, with a sign or not, rates, text, or a mark per rate.

    `title` may have two lines; `meaning` defines it in a sentence. `unit` is "%", "points" (both: shares times 100),
    "decades", "epochs" or "". `ends` says whether its values have a lower and an upper end, `beyond` whether they name
    what was tried next.
    """

    name: str
    title: str
    unit: str = ""
    digits: int = 1
    better: Literal["up", "down"] | None = None
    kind: Literal["number", "signed", "rate", "text", "marks"] = "number"
    ends: bool = False
    beyond: bool = False
    meaning: str = ""

    @property
    def scale(self) -> float:
        """What a stored value is multiplied by when it is written."""
        return 100.0 if self.unit in ("%", "points") else 1.0


@dataclass(frozen=True)
class Value:
    """One entry: a number with its ends, or a text. `at_least` marks a value that the grid's end cuts off.

    `beyond` is the first rate that was tried beyond it.
    """

    number: float | None = None
    low: float | None = None
    high: float | None = None
    ends: Literal["t", "order", "exact", "min-max", ""] = ""
    at_least: bool = False
    low_at_least: bool = False
    high_at_least: bool = False
    beyond: float | None = None
    text: str = ""
    mark: str = ""

    @classmethod
    def of(cls, interval: Interval | None, at_most: Interval | None = None) -> Value:
        """Return an interval, or none, as an entry; `at_most`: how large it may be where the grid ends."""
        if interval is None:
            return cls()
        most = at_most or interval
        return cls(
            interval.centre,
            interval.low,
            interval.high,
            interval.kind,
            at_least=most.centre > interval.centre,
            low_at_least=most.low > interval.low,
            high_at_least=most.high > interval.high,
        )


@dataclass(frozen=True)
class TableRow:
    """A norm's row, from how many `seeds`; `flags` are what a program should know besides the numbers.

    `ranks` are the ends of the rank's 95% interval, and `group` is counted from 1; None where there are none.
    """

    norm: str
    rank: int | None
    seeds: int
    values: dict[str, Value]
    flags: list[str] = field(default_factory=list)
    ranks: tuple[int, int] | None = None
    group: int | None = None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a table is of: a task, a condition, a protocol, a baseline, a grid of rates.

    A table over several tasks names them all in `task`, with their versions, and has no version of its own.
    """

    task: str
    task_version: int | None = None
    task_params: dict[str, Any] = field(default_factory=dict)
    condition: dict[str, Any] = field(default_factory=dict)
    protocol: str = "tuned"
    baseline: str = ""
    rates: list[float] = field(default_factory=list)

    @staticmethod
    def of(one: OfTable, baseline: str, rates: Sequence[float] = ()) -> Subject:
        """Return what the tables are of in which a cell, a session or a fingerprint stands."""
        return Subject(
            task=one.task,
            task_version=one.task_version,
            task_params=one.task_params,
            condition=one.condition,
            protocol="tuned" if one.recipe.hold_out else "published",
            baseline=baseline,
            rates=list(rates),
        )

    @property
    def table_id(self) -> str:
        """What identifies the task, condition and protocol: `Cell.table_id`."""
        return id_of_table(self, tuned=self.protocol == "tuned")

    @property
    def where(self) -> str:
        """The task with its condition, as messages name it."""
        task = spelled(self.task, self.task_params)
        return f"{task} ({assignments(self.condition)})" if self.condition else task

    @property
    def head(self) -> dict[str, Any]:
        """These fields, to make a table that has them."""
        return {field.name: getattr(self, field.name) for field in fields(Subject)}


@dataclass(frozen=True, kw_only=True)
class Table(Subject):
    """One board of one task and condition; `noun` is what its rows are.

    `apart` are norms without a row, each with the reason. Of the notes, `warnings` are those that no reader must miss,
    and `legend` says what marks in the table mean.
    """

    board: str
    columns: list[Column]
    rows: list[TableRow]
    apart: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    legend: str = ""
    noun: str = "norm"

    @property
    def further_notes(self) -> list[str]:
        """The notes that a reader may do without."""
        return [note for note in self.notes if note not in (*self.warnings, self.legend)]


def defined(columns: Iterable[Column], meanings: Mapping[str, str]) -> list[Column]:
    """Return columns with what each means, by its name. Raises KeyError for one that has no meaning."""
    return [replace(column, meaning=meanings[column.name]) for column in columns]


def flags_of(values: dict[str, Value]) -> list[str]:
    """Return what a program should know of values: which are cut off by the grid, which ends are no interval."""
    cut = [f"{name}:at-least" for name, value in values.items() if value.at_least]
    cut += [f"{name}_low:at-least" for name, value in values.items() if value.low_at_least]
    cut += [f"{name}_high:at-least" for name, value in values.items() if value.high_at_least]
    return cut + [f"{name}:min-max" for name, value in values.items() if value.ends == "min-max"]


def by_column(table: Table, name: str) -> Table:
    """Return a table with its rows in the order of a column, best first, or of their norms' names; ranks stay.

    Where a column does not say which way is better, less comes first. What has no number comes last. A table without
    such a column stays as it is.
    """
    column = next((column for column in table.columns if column.name == name), None)
    if name == "norm":
        return replace(table, rows=sorted(table.rows, key=lambda row: row.norm))
    if column is None:
        return table
    sign = -1 if column.better == "up" else 1

    def place(row: TableRow) -> tuple[bool, float, str]:
        value = row.values[name]
        return (False, sign * value.number, "") if value.number is not None else (True, 0.0, value.text)

    return replace(table, rows=sorted(table.rows, key=place))
