"""A comparison as data: rows with verdicts, notes and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from normbench.gates import Gate, Metric
from normbench.stats.decide import Decision
from normbench.stats.intervals import Interval
from normbench.tables.table import Subject

#: A row's verdict. Gated rows are ok, better, regressed or unclear; for the others the interval alone decides: better,
#: worse, or ~ where it holds 0. identical: the same to the last bit; vanished: BASE has it, HEAD has not.
Word: TypeAlias = Literal["regressed", "worse", "unclear", "vanished", "ok", "better", "~", "identical", "unchanged"]
#: In the order in which they are counted.
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """One metric of one norm of one task and condition. Numbers are as stored: shares are not per cents.

    `difference` is HEAD - BASE; where `signed`, it is BASE - HEAD, so that + is better: of a score that should be low.
    `unit` is that of the numbers. `why` says why a row vanished, and of how many seeds that fail; `crashed` that its
    session failed in HEAD. `could_be_ok` is of unclear rows alone: whether so many seeds could have shown one to be ok.
    `stopped`: it was decided at a look, and its later seeds are not read.
    """

    subject: Subject
    table_id: str
    norm_id: str
    norm: str
    metric: Metric
    unit: str = ""
    base: float | None = None
    head: float | None = None
    difference: Interval | None = None
    signed: bool = False
    seeds: int = 0
    identical: int = 0
    word: Word
    p: float | None = None
    gate: Gate | None = None
    could_be_ok: bool = True
    flags: list[str] = field(default_factory=list)
    why: str = ""
    crashed: bool = False
    stopped: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rows of a comparison, with its notes and warnings; `crashed` counts the trials of HEAD that crashed."""

    base: str
    head: str
    gates: dict[str, Gate]
    rows: list[ComparedRow]
    notes: list[str]
    warnings: list[str]
    crashed: int = 0
    looks: Sequence[int] = ()

    def __repr__(self) -> str:
        return f"Comparison(base={self.base!r}, head={self.head!r}, {len(self.rows)} rows)"

    def __str__(self) -> str:
        from normbench.compare.text import terminal  # which needs this module

        return terminal(self)

    def _repr_html_(self) -> str:
        from normbench.compare.text import notebook

        return notebook(self)

    def count(self, *words: Word) -> int:
        """Return how many rows have one of these words."""
        return sum(row.word in words for row in self.rows)

    @property
    def compared(self) -> int:
        """How many rows have results on both sides."""
        return len(self.rows) - self.count("vanished")

    @property
    def idle(self) -> list[Gate]:
        """The gates that applied to no row: they checked nothing."""
        held = {row.metric.name for row in self.rows if row.word not in ("vanished", "unchanged")}
        trained = any(row.word != "unchanged" for row in self.rows)
        return [gate for metric, gate in self.gates.items() if metric not in held] if trained else []

    def failing(self, *, strict: bool = False) -> list[ComparedRow]:
        """Return the rows that fail: those that regressed, and gated ones that vanished.

        Strictly also those that are unclear, where they could be ok, and every one that vanished.
        """
        return [
            *(row for row in self.rows if row.word == "regressed"),
            *(row for row in self.rows if strict and row.word == "unclear" and row.could_be_ok),
            *(row for row in self.rows if row.word == "vanished" and (strict or row.gate is not None)),
        ]


def word_of(ends: Interval, decision: Decision | None) -> Word:
    """Return the verdict on a difference of which + is better: the one of its gate, else what its interval says."""
    if decision is not None:
        return decision.verdict
    if ends.kind == "min-max":
        return "~"
    return "better" if ends.low > 0 else "worse" if ends.high < 0 else "~"


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return in what two environments differ, each as "what before → after"."""
    return [
        f"{key} {before.get(key, 'none')} → {after.get(key, 'none')}"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]
