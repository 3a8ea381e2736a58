"""From a store to grids: of every task and condition, each norm's results over rates, settings and seeds."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgspec

from normbench.sources import Files, agree
from normbench.stats import unseen_failures
from normbench.store import Store
from normbench.store.records import Result, RunRecord, TrialRecord
from normbench.suites import Published
from normbench.tables.table import Subject
from normbench.texts import in_a_line
from normbench.trials import FAILED, Cell, Measure

#: A point of a row's grid: the seed, the tuned setting's number, and the rate.
Point: TypeAlias = tuple[int, int, float]
Record = TypeVar("Record", Result, TrialRecord)


@dataclass
class Row:
    """One norm's results in a grid: of each seed, by setting and rate. `order` is that of its run among all."""

    cell: Cell
    run: RunRecord
    order: int
    seeds: list[int]
    settings: list[dict[str, Any]]
    rates: list[float]
    results: dict[Point, Result] = field(default_factory=dict)
    setting: int = 0
    rate: float | None = None
    #: The files that the newest of the results was made from, and how many were left out because theirs were others.
    files: Files | None = None
    edited: int = 0

    @property
    def label(self) -> str:
        """The norm as boards name it."""
        return self.cell.label

    def points(self) -> Iterator[Point]:
        """Yield the points of the grid, a seed at a time."""
        return itertools.product(self.seeds, range(len(self.settings)), self.rates)

    @property
    def planned(self) -> int:
        """How many trials the grid asks of this norm."""
        return len(self.seeds) * len(self.settings) * len(self.rates)

    @property
    def complete(self) -> list[int]:
        """The seeds of which every trial is stored, whatever its outcome. Boards use no other."""
        points = len(self.settings) * len(self.rates)
        counted = Counter(seed for seed, _, _ in self.results)
        return [seed for seed in self.seeds if counted[seed] == points]

    @property
    def failures(self) -> Counter[str]:
        """How many trials ended without a score, by their outcome: error, oom, timeout, unsupported."""
        return Counter(result.outcome for result in self.results.values() if not result.has_score)

    @property
    def failure_flags(self) -> list[str]:
        """The same, for programs: "error:2"."""
        return [f"{outcome}:{count}" for outcome, count in sorted(self.failures.items())]

    def at(self, rate: float, setting: int | None = None) -> dict[int, Result]:
        """Return the scored results at one rate and setting (left out, the chosen one), by seed."""
        setting = self.setting if setting is None else setting
        found = {seed: self.results.get((seed, setting, rate)) for seed in self.complete}
        return {seed: result for seed, result in found.items() if result is not None and result.has_score}

    def chosen(self) -> dict[int, Result]:
        """Return the scored results at the chosen rate and setting, by seed."""
        return self.at(self.rate) if self.rate is not None else {}


@dataclass(frozen=True, kw_only=True)
class Grid(Subject):
    """What the boards of one (task, condition) are made from; `table` is what `Cell.table_id` says of it.

    `crashed` is how many of its trials ended in error, oom or timeout, of norms that stand apart too.
    """

    table_id: str
    measure: Measure
    rows: list[Row]
    apart: list[tuple[str, str]]
    notes: list[str]
    crashed: int
    published: Published | None = None

    @property
    def data(self) -> set[str]:
        """Hashes of the data that its trials were trained on, as far as they are stored."""
        return {result.data for row in self.rows for result in row.results.values()} - {""}

    @property
    def seeds(self) -> int:
        """The smallest number of scored seeds that a ranked norm has at its chosen rate."""
        return min((len(row.chosen()) for row in self.rows), default=0)


def gather(store: Store, only: frozenset[str] | None = None) -> list[Grid]:
    """Return the grids of a store, in the order in which they were first asked for.

    `only` leaves out all but these tables, by `Cell.table_id`.
    """
    planned = [rows for rows in _planned(store.runs()) if only is None or rows[0].cell.table_id in only]
    rows = [row for group in planned for row in group]
    for row, found in _shown(rows, store.results(), store.sources()):
        row.results = found
    return [grid for grid in (_grid(group) for group in planned) if grid is not None]


def shown_trials(store: Store, only: frozenset[str] | None = None) -> list[TrialRecord]:
    """Return the whole records of the trials that the boards of a store show, or `only` those of some tables."""
    rows = [row for group in _planned(store.runs()) for row in group if only is None or row.cell.table_id in only]
    # A trial may stand in two tables, whose latest runs used other code, or another device.
    shown = (record for _, found in _shown(rows, store.trials(), store.sources()) for record in found.values())
    return list({id(record): record for record in shown}.values())


def _planned(runs: list[RunRecord]) -> Iterator[list[Row]]:
    """Yield the rows of each table, without results: its grid is that of its latest run, its norms those of any."""
    cells: dict[str, dict[str, list[tuple[Cell, int]]]] = {}
    latest: dict[str, Cell] = {}
    for order, run in enumerate(runs):
        for cell in run.cells:
            cells.setdefault(cell.table_id, {}).setdefault(cell.norm_id, []).append((cell, order))
            latest[cell.table_id] = cell
    for table, rows in cells.items():
        grid = latest[table]
        yield [
            Row(
                cell=history[-1][0],
                run=runs[history[-1][1]],
                order=history[-1][1],
                seeds=sorted({seed for cell, _ in history for seed in cell.seeds}),
                settings=grid.settings,
                rates=grid.rates,
            )
            for history in rows.values()
        ]


def _wanted(rows: Iterable[Row]) -> dict[str, list[tuple[Row, Point]]]:
    wanted: dict[str, list[tuple[Row, Point]]] = {}
    for row in rows:
        for point in row.points():
            seed, setting, rate = point
            key = row.cell.trial(rate, row.settings[setting], seed).key
            wanted.setdefault(key, []).append((row, point))
    return wanted


def _shown(
    rows: list[Row], records: Iterable[Record], lists: Mapping[str, Files]
) -> Iterator[tuple[Row, dict[Point, Record]]]:
    """Yield each row with the records that it shows: of each trial the latest, made like the row's newest.

    Sets `row.files`, and in `row.edited` counts the trials that have only records which were made from other files.
    """
    wanted = _wanted(rows)
    candidates: dict[int, list[tuple[Point, Record]]] = {}
    for record in records:
        for row, point in wanted.get(record.key, []):
            if _is_of(record, row):
                candidates.setdefault(id(row), []).append((point, record))
    for row in rows:
        found = candidates.get(id(row), [])
        newest = found[-1][1] if found else None
        row.files = lists.get(newest.sources) if newest else None
        alike = {point: record for point, record in found if newest and _made_alike(record, newest, lists)}
        row.edited = len({point for point, _ in found} - set(alike))
        yield row, {point: alike[point] for point in row.points() if point in alike}


def _is_of(record: Record, row: Row) -> bool:
    """Whether a record is of the latest run of a row: of its kind of device, and its code, or trained by it.

    What a worker loaded may be newer than what the run planned.
    """
    prints = (row.cell.norm_print, row.cell.task_print)
    own = record.run == row.run.run
    same_code = own if None in prints else own or (record.norm_print, record.task_print) == prints
    return same_code and record.device == row.run.device


def _made_alike(one: Record, other: Record, lists: Mapping[str, Files]) -> bool:
    """Whether two records have the same code prints, and the same content of each file that the lists of both have."""
    prints = (one.norm_print, one.task_print), (other.norm_print, other.task_print)
    return prints[0] == prints[1] and agree(lists.get(one.sources), lists.get(other.sources))


def _grid(rows: list[Row]) -> Grid | None:
    """Return a table's grid: norms with a whole seed are ranked, with their rate chosen; the others stand apart."""
    stored = [result for row in rows for result in row.results.values()]
    if not stored:
        return None
    # Not by the time that runs say they began: a clock may have been set back.
    latest = max(rows, key=lambda row: row.order)
    grid = Grid(
        table_id=latest.cell.table_id,
        task=latest.cell.task,
        task_version=latest.cell.task_version,
        task_params=latest.cell.task_params,
        condition=latest.cell.condition,
        protocol="tuned" if latest.cell.recipe.hold_out else "published",
        baseline=latest.run.baseline,
        rates=latest.rates,
        measure=stored[-1].measure,
        rows=[],
        apart=[],
        notes=[],
        crashed=sum(result.outcome in FAILED for result in stored),
        published=_published(latest),
    )
    for row in rows:
        _choose(row, grid.measure)
        if row.rate is not None:
            grid.rows.append(row)
        else:
            grid.apart.append((row.label, _lacks(row)))
    grid.notes.extend([*_notes(rows, stored), *seed_note(grid.seeds)])
    return grid


def _published(row: Row) -> Published | None:
    """Return the figures from elsewhere that a run's suite has for a row's task."""
    try:
        return msgspec.convert(row.run.suite["published"][row.cell.task], Published)
    except (KeyError, msgspec.ValidationError):
        return None


def seed_note(n: int) -> Iterator[str]:
    """Say what varies in every ±, and what n seeds can't see."""
    if n == 1:
        yield "one seed: nothing here says how much the numbers vary with the seed"
    elif n == 2:
        yield "(a…b): the two seeds, which is no interval; ± needs three"
    elif n:
        yield (
            f"±: 95% t interval of the mean over {n} or more seeds (initialization, order of samples, augmentation, a "
            f"layer's own draws); (a…b): min–max of the seeds, which is no interval. {n} seeds can't see a failure "
            f"that strikes up to {100 * unseen_failures(n):.0f}% of seeds"
        )


def _choose(row: Row, measure: Measure) -> None:
    """Choose the setting and rate of the best mean validation score; ties go to the lower rate, the earlier setting.

    Without a validation split there is one rate, and nothing to choose.
    """
    sign = 1 if measure.direction == "up" else -1
    best = -math.inf
    for rate in row.rates:
        for setting in range(len(row.settings)):
            found = row.at(rate, setting).values()
            scores = [result.score if result.validation is None else result.validation for result in found]
            usable = [sign * score for score in scores if score is not None]
            mean = statistics.fmean(usable) if usable else -math.inf
            # Means that differ by rounding alone are a tie.
            if mean > best and not math.isclose(mean, best, rel_tol=1e-12):
                best, row.setting, row.rate = mean, setting, rate


def _lacks(row: Row) -> str:
    unsupported = next((result.reason for result in row.results.values() if result.outcome == "unsupported"), None)
    if unsupported is not None:
        return f"unsupported: {in_a_line(unsupported) or 'no reason given'}"
    failed = ", ".join(f"{count} ended in {outcome}" for outcome, count in sorted(row.failures.items()))
    missing = f"lacks {row.planned - len(row.results)} of {row.planned} trials"
    return missing if not failed else f"{failed}; {missing}" if len(row.results) < row.planned else failed


def _notes(rows: list[Row], stored: list[Result]) -> Iterator[str]:
    """Say what is missing, and what is mixed."""
    planned = sum(row.planned for row in rows)
    if len(stored) < planned:
        yield f"{len(stored)} of {planned} trials are stored; a seed counts for a norm once all its rates are"
    for row in rows:
        if row.edited:
            yield (
                f"{row.label!r}: {row.edited} of {row.planned} trials were made from other files than its newest, and "
                "are left out; run the suite again"
            )
        if row.failures and row.rate is not None:
            counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(row.failures.items()))
            yield f"{row.label!r}: {sum(row.failures.values())} of {row.planned} trials have no score ({counts})"
    for row in rows:
        at_once = max((result.eval_batch for result in row.results.values()), default=0)
        if at_once:
            yield f"{row.label!r}: its evaluation depends on the batch; scores are of {at_once:,} samples at a time"
    if len({result.data for result in stored} - {""}) > 1:
        yield "mixed: trials on other data stand side by side"
    if len({result.environment for result in stored}) > 1:
        yield "mixed: trials of more than one environment (versions or hardware) stand side by side"
    if len({result.device for result in stored}) > 1:
        yield "mixed: trials of more than one kind of device stand side by side"
    if len({row.cell.task_print for row in rows}) > 1:
        yield "mixed: the task's code changed between the runs of these norms; run the suite again"
