"""From a store to grids: for each task and condition, each norm's results over rates, settings and seeds."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgspec

from normbench.plan import Point, choose
from normbench.sources import Files, agree
from normbench.stats.intervals import Interval, mean_over_seeds, unseen_failures
from normbench.store import Store
from normbench.store.records import Result, RunRecord, TraceRecord, TrialRecord
from normbench.suites import Published
from normbench.tables.table import Subject
from normbench.texts import in_a_line
from normbench.trials import FAILED, FRESH, Cell, Measure

Record = TypeVar("Record", Result, TrialRecord)
Stored: TypeAlias = Result | TrialRecord | TraceRecord


@dataclass
class Row:
    """One norm's results in a grid, by seed, setting and rate. `order` is its run's place among all runs.

    `fresh` are all seeds that runs asked for at a chosen rate, and `fresh_results` what there is of them, wherever they
    were trained. The row is reported by them where it `reads_fresh`, else by the seeds of the grid.
    """

    cell: Cell
    run: RunRecord
    order: int
    seeds: list[int]
    settings: list[dict[str, Any]]
    rates: list[float]
    fresh: list[int] = field(default_factory=list)
    results: dict[Point, Result] = field(default_factory=dict)
    fresh_results: dict[Point, Result] = field(default_factory=dict)
    setting: int = 0
    rate: float | None = None
    reads_fresh: bool = False
    #: The files that the newest of the results was made from, and what was left out because theirs were others.
    files: Files | None = None
    edited: set[Point] = field(default_factory=set)

    @property
    def label(self) -> str:
        """The norm as boards name it."""
        return self.cell.label

    def points(self) -> Iterator[Point]:
        """Yield the points of the grid, one seed after the other."""
        return itertools.product(self.seeds, range(len(self.settings)), self.rates)

    def every(self) -> Iterator[Point]:
        """Yield the points of the grid, then those of fresh seeds, wherever in the grid they are trained."""
        return itertools.chain(self.points(), itertools.product(self.fresh, range(len(self.settings)), self.rates))

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
        return Counter(result.outcome for result in self.shown if not result.has_score)

    def shows(self, point: Point) -> bool:
        """Whether a point is of the grid, or of a fresh seed at the chosen setting and rate."""
        return point[0] not in self.fresh or point[1:] == (self.setting, self.rate)

    @property
    def shown(self) -> list[Result]:
        """The results of the grid, and of the fresh seeds at the chosen rate and setting."""
        return [*self.results.values(), *self.fresh_at(self.rate, self.setting).values()]

    def own_choice(self, measure: Measure, seeds: Sequence[int] | None = None) -> tuple[int, float] | None:
        """Return the setting and rate that seeds of the grid choose (left out: all whole ones), whatever is kept."""
        by = self.complete if seeds is None else seeds
        return choose(self.results, rates=self.rates, settings=len(self.settings), seeds=by, measure=measure)

    def at(self, rate: float, setting: int | None = None) -> dict[int, Result]:
        """Return the scored results at one rate and setting (left out: the chosen one), by seed."""
        setting = self.setting if setting is None else setting
        results = {seed: self.results.get((seed, setting, rate)) for seed in self.complete}
        return {seed: result for seed, result in results.items() if result is not None and result.has_score}

    def fresh_at(self, rate: float | None, setting: int) -> dict[int, Result]:
        """Return the results of fresh seeds at one rate and setting, by seed, scored or not."""
        results = {seed: self.fresh_results.get((seed, setting, rate)) for seed in self.fresh if rate is not None}
        return {seed: result for seed, result in results.items() if result is not None}

    @property
    def has_fresh(self) -> bool:
        """Whether the fresh seeds that are wanted are all stored at the chosen rate, and some have a score."""
        there = self.fresh_at(self.rate, self.setting)
        return there.keys() >= self.wants_fresh and bool(self.fresh_scored())

    @property
    def wants_fresh(self) -> set[int]:
        """The fresh seeds that the row is to be reported by: all, but for those of seeds that are not whole yet."""
        return set(self.fresh) - {seed + FRESH for seed in set(self.seeds) - set(self.complete)}

    def fresh_scored(self) -> dict[int, Result]:
        """Return the scored results of fresh seeds at the chosen rate and setting, by seed."""
        return {seed: result for seed, result in self.fresh_at(self.rate, self.setting).items() if result.has_score}

    def chosen(self) -> dict[int, Result]:
        """Return the scored results that are reported at the chosen rate and setting, by seed."""
        if self.reads_fresh:
            return self.fresh_scored()
        return self.at(self.rate) if self.rate is not None else {}

    def scores(self) -> dict[int, float]:
        """Return the scores that are reported at the chosen rate and setting, by seed."""
        return {seed: result.score for seed, result in self.chosen().items() if result.score is not None}


@dataclass(frozen=True, kw_only=True)
class Grid(Subject):
    """What the boards of one task and condition are made from.

    `warnings` are those of the notes that no reader must miss: of what is missing, failed or mixed. `crashed` counts
    the trials that ended in error, oom or timeout, those of norms that stand apart as well.
    `same_seeds`: scores are of the seeds that the rates were chosen on, since fresh ones are missing.
    """

    measure: Measure
    rows: list[Row]
    apart: list[tuple[str, str]]
    notes: list[str]
    warnings: list[str]
    crashed: int
    published: Published | None = None
    same_seeds: bool = False

    @property
    def data(self) -> set[str]:
        """Hashes of the data that its trials were trained on, as far as they are stored."""
        return {result.data for row in self.rows for result in row.results.values()} - {""}

    @property
    def seeds(self) -> int:
        """The smallest number of scored seeds that a ranked norm is reported by at its chosen rate."""
        return min((len(row.chosen()) for row in self.rows), default=0)

    @property
    def grid_seeds(self) -> int:
        """The smallest number of scored seeds of the grid that a ranked norm has at its chosen rate."""
        return min((len(row.at(row.rate)) for row in self.rows if row.rate is not None), default=0)


def gather(store: Store, only: frozenset[str] | None = None, baseline: str | None = None) -> list[Grid]:
    """Return the grids of a store, in the order in which they were first asked for.

    `only` leaves out all but these tables, by `Cell.table_id`; `baseline` replaces that of the runs.
    """
    tables = list(_planned(store.runs(), only))
    for row, results in _shown([row for rows in tables for row in rows], store.results(), store.sources()):
        fresh = set(row.fresh)
        row.results = {point: result for point, result in results.items() if point[0] not in fresh}
        row.fresh_results = {point: result for point, result in results.items() if point[0] in fresh}
    return [grid for grid in (_grid(rows, baseline) for rows in tables) if grid is not None]


def shown_trials(store: Store, only: frozenset[str] | None = None) -> list[TrialRecord]:
    """Return the whole records of the trials that the boards of a store show, or `only` those of some tables."""
    rows = [row for rows in _planned(store.runs(), only) for row in rows]
    chosen = {row.cell.row_id: (row.setting, row.rate) for grid in gather(store, only) for row in grid.rows}
    # A trial may stand in two tables, whose latest runs used other code, or another device.
    shown: dict[int, TrialRecord] = {}
    for row, records in _shown(rows, store.trials(), store.sources()):
        row.setting, row.rate = chosen.get(row.cell.row_id, (0, None))
        shown |= {id(record): record for point, record in records.items() if row.shows(point)}
    return list(shown.values())


def _planned(runs: list[RunRecord], only: frozenset[str] | None) -> Iterator[list[Row]]:
    """Yield the rows of each table, without results: its grid is that of its latest run, its norms those of any."""
    cells: dict[str, dict[str, list[tuple[Cell, int]]]] = {}
    latest: dict[str, Cell] = {}
    for order, run in enumerate(runs):
        for cell in run.cells:
            table = cell.table_id
            if only is None or table in only:
                cells.setdefault(table, {}).setdefault(cell.norm_id, []).append((cell, order))
                latest[table] = cell
    for table, norms in cells.items():
        yield [
            Row(
                cell=cell,
                run=runs[order],
                order=order,
                seeds=sorted({seed for earlier, _ in history for seed in earlier.seeds}),
                settings=latest[table].settings,
                rates=latest[table].rates,
                fresh=sorted({seed for earlier, _ in history for seed in earlier.fresh}),
            )
            for history in norms.values()
            for cell, order in history[-1:]
        ]


def _shown(
    rows: list[Row], records: Iterable[Record], lists: Mapping[str, Files]
) -> Iterator[tuple[Row, dict[Point, Record]]]:
    """Yield each row with the records that it shows: each trial's latest that was made like the row's newest.

    Sets `row.files`, and `row.edited`: the trials that have only records which were made from other files.
    """
    wanted: dict[str, list[tuple[Row, Point]]] = {}
    for row in rows:
        for point in row.every():
            seed, setting, rate = point
            key = row.cell.trial(rate, row.settings[setting], seed).key
            wanted.setdefault(key, []).append((row, point))
    candidates: dict[int, list[tuple[Point, Record]]] = {}
    for record in records:
        for row, point in wanted.get(record.key, []):
            if _is_of(record, row):
                candidates.setdefault(id(row), []).append((point, record))
    for row in rows:
        own = candidates.get(id(row), [])
        newest = own[-1][1] if own else None
        row.files = lists.get(newest.sources) if newest else None
        alike = {point: record for point, record in own if newest and made_alike(record, newest, lists)}
        row.edited = {point for point, _ in own} - set(alike)
        yield row, {point: alike[point] for point in row.every() if point in alike}


def _is_of(record: Record, row: Row) -> bool:
    """Whether a record is of a row's latest run: trained by it, or with its code, on its kind of device.

    What a worker of the run loaded may be newer than what the run planned.
    """
    prints = row.cell.prints
    same_code = None not in prints and prints == (record.norm_print, record.task_print)
    return (same_code or record.run == row.run.run) and record.device == row.run.device


def made_alike(one: Stored, other: Stored, lists: Mapping[str, Files]) -> bool:
    """Whether two records have the same code prints, and the same content of each file that the lists of both have."""
    same_code = (one.norm_print, one.task_print) == (other.norm_print, other.task_print)
    return same_code and agree(lists.get(one.sources), lists.get(other.sources))


def _grid(rows: list[Row], baseline: str | None) -> Grid | None:
    """Return a table's grid: norms with a whole seed are ranked, with their rate chosen; the others stand apart."""
    measures = [result.measure for row in rows for result in (row.results | row.fresh_results).values()]
    if not measures:
        return None
    # Not by the time that runs say they began: a clock may have been set back.
    latest = max(rows, key=lambda row: row.order)
    for row in rows:
        _choose(row, measures[-1])
    stored = [result for row in rows for result in row.shown]
    warnings = [*_missing(rows), *_mixed(rows, stored)]
    ranked = [row for row in rows if row.rate is not None]
    fresh = bool(ranked) and all(row.has_fresh for row in ranked)
    for row in ranked:
        row.reads_fresh = fresh
    return Grid(
        **Subject.of(latest.cell, latest.run.baseline if baseline is None else baseline, latest.rates).head,
        measure=measures[-1],
        rows=ranked,
        apart=[(row.label, _lacks(row)) for row in rows if row.rate is None],
        notes=[*warnings, *_batch_notes(rows)],
        warnings=warnings,
        crashed=sum(result.outcome in FAILED for result in stored),
        published=_published(latest),
        same_seeds=latest.cell.recipe.hold_out and latest.cell.chooses and not fresh,
    )


def _published(row: Row) -> Published | None:
    """Return the figures from elsewhere that a run's suite has for a row's task."""
    try:
        return msgspec.convert(row.run.suite["published"][row.cell.task], Published)
    except (KeyError, msgspec.ValidationError):
        return None


def failure_flags(failures: Mapping[str, int]) -> list[str]:
    """Return counts of trials without a score, by outcome, for programs: "error:2"."""
    return [f"{outcome}:{count}" for outcome, count in sorted(failures.items())]


def over_seeds(scores: Iterable[float], all_trained: bool) -> Interval:
    """Return the mean of scores with its t interval where there are 3 or more and all seeds trained, else min-max."""
    values = list(scores)
    return mean_over_seeds(values, least=3 if all_trained else len(values) + 1)


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
    """Take the setting and rate that are kept, where the grid has them, else those that its whole seeds choose.

    There is none where no whole seed has a score there.
    """
    kept, choice = row.cell.kept, row.own_choice(measure)
    if choice is not None and kept is not None and kept.rate in row.rates and kept.setting in row.settings:
        choice = row.settings.index(kept.setting), kept.rate
    if choice is not None and row.at(choice[1], choice[0]):
        row.setting, row.rate = choice


def _lacks(row: Row) -> str:
    unsupported = next((result.reason for result in row.results.values() if result.outcome == "unsupported"), None)
    if unsupported is not None:
        return f"unsupported: {in_a_line(unsupported) or 'no reason given'}"
    failed = ", ".join(f"{count} ended in {outcome}" for outcome, count in sorted(row.failures.items()))
    lacking = row.planned - len(row.results)
    return "; ".join([failed] * bool(failed) + [f"lacks {lacking} of {row.planned} trials"] * bool(lacking))


def _missing(rows: list[Row]) -> Iterator[str]:
    """Say which trials are missing or have no score."""
    planned, stored = sum(row.planned for row in rows), sum(len(row.results) for row in rows)
    if stored < planned:
        yield f"{stored} of {planned} trials are stored; a seed counts for a norm once all its rates are"
    for row in rows:
        planned, edited = row.planned + len(row.wants_fresh), sum(map(row.shows, row.edited))
        if edited:
            yield (
                f"{row.label!r}: {edited} of {planned} trials were made from other files than its newest, and "
                "are left out; run the suite again"
            )
        if row.failures and row.rate is not None:
            counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(row.failures.items()))
            yield f"{row.label!r}: {sum(row.failures.values())} of {planned} trials have no score ({counts})"


def _batch_notes(rows: list[Row]) -> Iterator[str]:
    """Say which scores depend on the size of a batch."""
    for row in rows:
        at_once = max((result.eval_batch for result in row.results.values()), default=0)
        if at_once:
            yield f"{row.label!r}: its evaluation depends on the batch; scores are of {at_once:,} samples at a time"


def _mixed(rows: list[Row], stored: list[Result]) -> Iterator[str]:
    """Say where the trials of one table are not alike."""
    if len({result.data for result in stored} - {""}) > 1:
        yield "mixed: trials on other data stand side by side"
    if len({result.environment for result in stored}) > 1:
        yield "mixed: trials of more than one environment (versions or hardware) stand side by side"
    if len({result.device for result in stored}) > 1:
        yield "mixed: trials of more than one kind of device stand side by side"
    if len({row.cell.task_print for row in rows}) > 1:
        yield "mixed: the task's code changed between the runs of these norms; run the suite again"
