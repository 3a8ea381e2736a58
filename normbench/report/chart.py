"""A chart of a report as data: what Vega-Lite draws, and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Numbers:
    """A plain table beside a chart: what it shows, for readers who do not see it. Each entry is text."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart: a specification of Vega-Lite without data, which are `columns` of equal length, by name.

    The specification reads its data from the data set "rows", and has a parameter `hidden`, a list of the labels of
    norms that are not drawn. Of several `choices` (rates, sites) it draws that whose place is its parameter `choice`,
    which begins at 0; `chooses` says what they are. `how` says in a sentence how it is read, `left_out` what it does
    not draw, "" for nothing.
    """

    title: str
    how: str
    spec: dict[str, Any]
    columns: dict[str, list[Any]]
    table: Numbers
    chooses: str = ""
    choices: Sequence[str] = ()
    left_out: str = ""
