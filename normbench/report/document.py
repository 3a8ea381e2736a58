"""What a report shows of one results folder, as data: nothing here is HTML."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from normbench import plugins
from normbench.boards import tables
from normbench.boards.answer import answers, in_two_lines
from normbench.boards.grid import Grid, Row, gather, shown_trials
from normbench.boards.sessions import gather_sessions
from normbench.boards.stability import strip
from normbench.charts.looks import Look, looks_in
from normbench.report import again
from normbench.report.chart import Chart
from normbench.report.charts import every
from normbench.report.methods import Made, made, paragraphs, summary_of
from normbench.spelling import assignments, spelled
from normbench.store import Store
from normbench.store.records import EnvironmentRecord, RunRecord, SessionRecord, Timing, TrialRecord
from normbench.tables import Table
from normbench.tables.table import Subject
from normbench.texts import counted, in_a_line, visible
from normbench.trials import FAILED, OUTCOMES, SCORED, SOME_TRAINED, Cell, OfTable

#: A kind of failure has its reason, and the trial that shows it; of more kinds than this, the most frequent.
MOST_REASONS = 8
#: Pixels of a chart that has room below the strip of rates.
LOW = 220
#: What each mark of a strip says, in a word.
_MARKS = {
    OUTCOMES["trained"].mark: "all",
    SOME_TRAINED: "some",
    OUTCOMES["not-trained"].mark: "none",
    OUTCOMES["diverged"].mark: "diverged",
}


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A norm as the legend names it, how it is drawn, and what the registry knows of it."""

    label: str
    look: Look
    summary: str = ""
    paper: str = ""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What the seeds of a norm did at one rate: of `seeds`, `trained`. The rate may be the norm's chosen one."""

    mark: str
    rate: float
    trained: int
    seeds: int
    chosen: bool

    @property
    def kind(self) -> str:
        """What the mark says, in a word."""
        return _MARKS.get(self.mark, "unknown")

    @property
    def share(self) -> float:
        """The share of seeds that trained."""
        return self.trained / self.seeds if self.seeds else 0.0

    @property
    def said(self) -> str:
        """The same in words."""
        chosen = "; the chosen rate" if self.chosen else ""
        return f"rate {self.rate:g}: {self.trained} of {self.seeds} seeds trained{chosen}"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """What a reader must know before any number, "failed" or "missing": a sentence, and items with their commands.

    Without a sentence the items are sentences themselves.
    """

    kind: str
    text: str
    items: Sequence[tuple[str, str]] = ()


@dataclass(kw_only=True)
class Part:
    """One task and condition: what is drawn, its strip of rates, its boards, and the command that repeats each norm."""

    task: str
    condition: str = ""
    protocol: str = ""
    summary: str = ""
    answer: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    strip: list[tuple[str, list[Mark]]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)

    @property
    def is_stacked(self) -> bool:
        """Whether a chart has room below the strip of rates, beside the first chart."""
        return bool(self.strip) and any(chart.spec["height"] <= LOW for chart in self.charts[1:])


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a page shows of one folder, or of an export of one."""

    name: str
    folder: Path
    summary: str
    facts: Sequence[str]
    answer: Sequence[str]
    alerts: Sequence[Alert]
    norms: Sequence[Norm]
    parts: Sequence[Part]
    over: Sequence[Table]
    methods: Sequence[str]
    environments: Sequence[tuple[EnvironmentRecord, int]]
    made: Sequence[Made]

    @property
    def references(self) -> list[Norm]:
        """The norms of which the registry knows something."""
        return [norm for norm in self.norms if norm.summary]


def source(folder: Path, only: frozenset[str] | None = None) -> Source:
    """Return what a page shows of a folder: of its tables `only`, by `Cell.table_id`, or of all."""
    store = Store(folder)
    runs = [run for run in store.runs() if any(_counts(cell, only) for cell in run.cells)]
    grids = gather(store, only)
    trials = shown_trials(store, only)
    sessions = [session for session in store.sessions() if _counts(session, only)]
    norms = _norms(store, only)
    boards = tables(store, only=only)
    parts = _parts(store, only, grids, boards)
    # Each line that can't be read is known once all of them were.
    alerts = [*_failed(store, trials), *_doubts(boards), *_unreadable(store)]
    newest = runs[-1] if runs else None
    environments = _environments(store, trials, sessions)
    return Source(
        name=str(newest.suite.get("name") or folder.stem) if newest else folder.stem,
        folder=folder,
        summary=str(newest.suite.get("summary", "")) if newest else "",
        facts=list(_facts(norms, grids, trials, len(sessions))),
        answer=_answer(boards),
        alerts=alerts,
        norms=norms,
        parts=parts,
        over=[table for table in boards if table.task_version is None],
        methods=list(paragraphs(grids, sessions, [record for record, _ in environments])),
        environments=environments,
        made=made(runs, sessions, trials),
    )


def _counts(of: OfTable, only: frozenset[str] | None) -> bool:
    return only is None or of.table_id in only


def _norms(store: Store, only: frozenset[str] | None) -> list[Norm]:
    """Return the norms of a folder's tables, in the order in which they were first asked for."""
    styles = looks_in(store)
    registry = plugins.current()
    asked: list[Cell | Timing] = [cell for run in store.runs() for cell in run.cells if _counts(cell, only)]
    asked += [timing for session in store.sessions() if _counts(session, only) for timing in session.timings]
    norms: dict[str, Norm] = {}
    for one in asked:
        offered = registry.norms.get(one.norm)
        known = {"summary": offered.thing.summary, "paper": offered.thing.paper or ""} if offered else {}
        norms.setdefault(one.label, Norm(label=one.label, look=styles[one.norm_id], **known))
    return list(norms.values())


def _answer(boards: Sequence[Table]) -> list[str]:
    """Return what the boards come to; what they warn of stands below it."""
    given = answers(boards)
    return given[0].sentences if len(given) == 1 else in_two_lines(given)


def _parts(store: Store, only: frozenset[str] | None, grids: Sequence[Grid], boards: Sequence[Table]) -> list[Part]:
    """Return a part per task and condition, with its charts and boards."""
    parts = {grid.table_id: _part(grid) for grid in grids}
    for table in boards:
        if table.task_version is not None:
            parts.setdefault(table.table_id, _part(table)).tables.append(table)
    for table_id, charts in every.charts(store, grids, gather_sessions(store, only)).items():
        # What is low stands first, beside the strip of rates, which is low too: the scores are tall.
        parts[table_id].charts += [*charts[:1], *sorted(charts[1:], key=lambda chart: chart.spec["height"] > LOW)]
    for grid in grids:
        part = parts[grid.table_id]
        part.rates = grid.rates
        part.strip = [(row.label, _marks(grid, row)) for row in _best_first(grid)] * (len(grid.rates) > 1)
        part.commands = _commands(store, grid.table_id)
    for part in parts.values() if len(parts) > 1 else ():
        part.answer = _answer(part.tables)
    return list(parts.values())


def _part(subject: Subject) -> Part:
    return Part(
        task=spelled(subject.task, subject.task_params),
        condition=assignments(subject.condition),
        protocol="" if subject.protocol == "tuned" else subject.protocol,
        summary=summary_of(subject.task),
    )


def _best_first(grid: Grid) -> list[Row]:
    """Return the rows by how many trials trained, most first; where that is equal, as they were asked for."""
    return sorted(grid.rows, key=lambda row: -sum(result.trained for result in row.results.values()))


def _marks(grid: Grid, row: Row) -> list[Mark]:
    marks = []
    for rate, mark in zip(grid.rates, strip(grid, row), strict=True):
        results = row.at(rate).values()
        trained = sum(result.trained for result in results)
        marks.append(Mark(mark=mark, rate=rate, trained=trained, seeds=len(results), chosen=rate == row.rate))
    return marks


def _commands(store: Store, table_id: str) -> dict[str, str]:
    """Return the command that repeats each norm of a table, that of its latest run."""
    latest: dict[str, tuple[RunRecord, Cell]] = {}
    for run in store.runs():
        latest |= {cell.norm_id: (run, cell) for cell in run.cells if cell.table_id == table_id}
    return {cell.label: again.of_norm(store, run, cell) for run, cell in latest.values()}


def _facts(norms: Sequence[Norm], grids: Sequence[Grid], trials: Sequence[TrialRecord], sessions: int) -> Iterator[str]:
    """Yield how much there is, in a few words each."""
    yield counted(len(norms), "norm")
    if tasks := {(grid.task, str(grid.task_params)) for grid in grids}:
        yield counted(len(tasks), "task")
    if len(grids) > len(tasks):
        yield counted(len(grids), "condition")
    if grids:
        yield counted(max(len(grid.rates) for grid in grids), "rate")
        yield counted(max((len(row.seeds) for grid in grids for row in grid.rows), default=0), "seed")
    yield counted(len(trials), "trial")
    if sessions:
        yield counted(sessions, "throughput session")


def _failed(store: Store, trials: Sequence[TrialRecord]) -> Iterator[Alert]:
    """Say how many trials have no score, by outcome and reason, and which command shows one of each."""
    failed = [trial for trial in trials if trial.outcome not in SCORED]
    if not failed:
        return
    labels = {spelled(cell.norm, cell.params): cell.label for run in store.runs() for cell in run.cells}
    kinds: dict[tuple[str, str, str], list[TrialRecord]] = {}
    for trial in failed:
        norm = spelled(trial.norm, trial.params)
        kinds.setdefault((labels.get(norm, norm), trial.outcome, in_a_line(trial.reason)), []).append(trial)
    most = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    items = [
        (
            visible(f"{len(of)} × {norm}, {outcome}: {reason or 'no reason given'}"),
            shlex.join(["normbench", "show", of[-1].key, "--in", str(store.folder)]),
        )
        for (norm, outcome, reason), of in most[:MOST_REASONS]
    ]
    if len(most) > MOST_REASONS:
        items.append((f"and {len(most) - MOST_REASONS} more norms and reasons", ""))
    counts = Counter(trial.outcome for trial in failed)
    listed = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    kind = "failed" if any(trial.outcome in FAILED for trial in failed) else "missing"
    yield Alert(kind=kind, text=f"{len(failed)} of {len(trials)} trials have no score: {listed}.", items=items)


def _doubts(boards: Sequence[Table]) -> Iterator[Alert]:
    """Say what boards warn of, and which norms they do not rank, each once with what it is about."""
    said: dict[str, dict[str, None]] = {}
    for table in boards:
        where = table.where if table.task_version is not None else "over several tasks"
        apart = [f"{norm!r} is not ranked: {why}" for norm, why in table.apart]
        for text in [*table.warnings, *apart]:
            said.setdefault(visible(text), {})[where] = None
    tasks = {table.where for table in boards if table.task_version is not None}
    items = [
        (f"{text} ({visible('; '.join(about))})" if tasks - set(about) else text, "") for text, about in said.items()
    ]
    if items:
        yield Alert(kind="missing", text="", items=items)


def _unreadable(store: Store) -> Iterator[Alert]:
    if store.unreadable:
        items = [(visible(f"{bad.file} line {bad.line}: {bad.reason}"), "") for bad in store.unreadable[:MOST_REASONS]]
        count = counted(len(store.unreadable), "line")
        yield Alert(kind="failed", text=f"{count} left out that can't be read.", items=items)


def _environments(
    store: Store, trials: Sequence[TrialRecord], sessions: Sequence[SessionRecord]
) -> list[tuple[EnvironmentRecord, int]]:
    """Return what trials and sessions ran on, each with its number of trials, that of most trials first."""
    counts = Counter(trial.environment for trial in trials)
    counts.update({session.environment: 0 for session in sessions})
    known = store.environments()
    return [(known[environment], count) for environment, count in counts.most_common() if environment in known]
