"""Which throughput sessions are wanted, and measuring them: all norms of a table that are not measured yet at once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from normbench import environment, plan, prints
from normbench.calls import Workplace
from normbench.errors import Lost
from normbench.prints import with_prints
from normbench.registry import Registry
from normbench.sources import AtHand
from normbench.spelling import Choice, choice
from normbench.store import Store, Writer
from normbench.store.records import SCHEMA, SessionRecord, Timing
from normbench.throughput.entry import Effort, Entry, Measured, Round, Turn
from normbench.trials import Cell, Made, shared

#: Called with a session and how many of its rounds are done: 0 before anything of it is.
OnSession: TypeAlias = "Callable[[Session, int], None]"
#: When a session may end: at the end of a run, and where throughput alone is asked for.
AFTER_RUN, ALONE = Effort(20.0, 0.05), Effort(60.0, 0.03)
#: About how many seconds a norm takes in a round: as long as the baseline's blocks.
_TURN = 0.15
#: Times the recipe's rate: speed does not depend on the rate, and a network that diverged would be no measure.
RATE = 1e-3


@dataclass(frozen=True)
class Session:
    """A session to come: the cells to measure, all of one table, the baseline, and the norm that normalizes nothing."""

    cells: list[Cell]
    baseline: Cell
    without: Cell | None

    @property
    def entries(self) -> list[Cell]:
        """Return every cell that is timed, the baseline once."""
        first: dict[str, Cell] = {}
        for cell in [*self.cells, self.baseline, *([self.without] if self.without else [])]:
            first.setdefault(cell.norm_id, cell)
        return list(first.values())

    def expected(self, seconds: float) -> float:
        """Return about how many seconds the session takes, where `seconds` are allowed: it has 10 rounds at least."""
        return max(seconds, 10 * _TURN * (len(self.entries) + 1))


def sessions(cells: Sequence[Cell], baseline: str, registry: Registry, where: str) -> list[Session]:
    """Return the sessions that measure all of these cells: one per table, where a trial takes one device.

    `baseline` is spelled as boards name it: the label of a cell, or a norm with its parameters; `where` says in
    messages who asked for it.
    """
    tables: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.recipe.ranks == 1:
            tables.setdefault(cell.table_id, []).append(cell)
    wanted = []
    for group in tables.values():
        base = next((cell for cell in group if cell.label == baseline), None)
        base = base or _like(group[0], choice(baseline, f"{where}: baseline"), registry)
        without = next((cell for cell in group if cell.norm == registry.identity and not cell.params), None)
        if without is None and registry.identity:
            without = _like(group[0], Choice(registry.identity), registry)
        wanted.append(Session(group, base, without))
    return wanted


def missing(
    wanted: Sequence[Session], store: Store, device: str, at_hand: AtHand, *, retry: bool = False
) -> list[Session]:
    """Return the sessions with only those cells that no stored session measured, with this code on this kind of device.

    They are measured again beside the baseline: figures of two sessions are not compared. A session beside another
    baseline, or other code of it, does not count. What ran out of memory or time is tried again with `retry`.
    """
    final = {"measured", "unsupported"} | ({"oom", "timeout"} if not retry else set())
    stored = {
        (session.table_id, session.task_print, *_code(session.baseline), *_code(timing))
        for session in store.sessions()
        # Without a baseline there are no ratios: where it won't be there next time either, nothing is left to do.
        if session.device == device and session.baseline.outcome in final
        for timing in session.timings
        if timing.outcome in final and not any(map(at_hand.edited, (timing.sources, session.baseline.sources)))
    }
    unmeasured = []
    for session in wanted:
        base = (session.baseline.table_id, session.baseline.task_print, *_code(session.baseline))
        points = {cell.norm_id: (*base, *_code(cell)) for cell in session.cells}
        left = [cell for cell in session.cells if None in points[cell.norm_id] or points[cell.norm_id] not in stored]
        if left:
            unmeasured.append(dataclasses.replace(session, cells=left))
    return unmeasured


def measure_all(
    wanted: Sequence[Session],
    writer: Writer,
    at: Workplace,
    effort: Effort = ALONE,
    on_session: OnSession | None = None,
) -> Iterator[SessionRecord]:
    """Measure sessions one after another; store each as it ends, and yield it."""
    for session in wanted:
        on_round = functools.partial(on_session, session) if on_session else lambda done: None  # noqa: ARG005
        record = _measured(session, writer, at, effort, on_round)
        writer.append(record)
        yield record


def of_folder(store: Store, registry: Registry) -> list[Session]:
    """Return the sessions that measure every norm of a folder's runs, with the code that is at hand now.

    Raises UsageError where a norm or a task is not at hand, or the task's version is another.
    """
    cells: dict[tuple[str, str], Cell] = {}
    baselines: dict[str, str] = {}
    for run in store.runs():
        for cell in run.cells:
            cells[cell.table_id, cell.norm_id] = cell
            baselines[cell.table_id] = run.baseline
    where = str(store.folder)
    wanted: list[Session] = []
    for table, baseline in baselines.items():
        group = [with_prints(cell, registry, where) for (of, _), cell in cells.items() if of == table]
        wanted += sessions(group, baseline, registry, where)
    return wanted


def _measured(
    session: Session, writer: Writer, at: Workplace, effort: Effort, on_round: Callable[[int], None]
) -> SessionRecord:
    """Measure a session; return its record, without figures where the baseline can't be measured.

    The environment and the sources that it names are stored.
    """
    env = writer.environment(environment.describe(at.device))
    started = datetime.now(UTC)
    on_round(0)
    cells = session.entries
    baseline, again = [cell.norm_id for cell in cells].index(session.baseline.norm_id), len(cells)
    entries = [Entry(cell.trial(RATE * cell.recipe.rate, {}, 0)) for cell in [*cells, session.baseline]]
    measured = _timed(entries, baseline, again, at, effort, on_round)
    timed = zip(cells, measured.entries, strict=False)
    timings = {cell.norm_id: _timing(cell, entry, measured, writer) for cell, entry in timed}
    first = session.baseline
    return SessionRecord(
        schema=SCHEMA,
        session=environment.new_id(started),
        **environment.origin(started),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **shared(SessionRecord, first, measured.entries[baseline].made or first),
        device=environment.kind(at.device),
        environment=env,
        rounds=measured.rounds,
        steps=measured.steps,
        batches=measured.batches,
        batch=measured.batch,
        stopped=measured.stopped,
        precision=effort.precision,
        baseline=timings[first.norm_id],
        again=_timing(first, measured.entries[again], measured, writer),
        without=timings[session.without.norm_id] if session.without else None,
        norms=[timings[cell.norm_id] for cell in session.cells if cell.norm_id != first.norm_id],
    )


def _timed(
    entries: list[Entry], baseline: int, again: int, at: Workplace, effort: Effort, on_round: Callable[[int], None]
) -> Measured:
    """Time entries, and fill them in; where a worker does not survive a turn, the others are timed anew without it."""
    while True:
        left = [i for i, entry in enumerate(entries) if entry.outcome == "measured"]
        asked = [entries[i].trial for i in left], left.index(baseline), left.index(again), effort
        turn = baseline  # if its worker dies while data is loaded, that is the baseline's
        try:
            with closing(at.stream("normbench.throughput.session:measure", *asked)) as events:
                for event in events:
                    if isinstance(event, Turn):
                        turn = left[event.entry]
                    elif isinstance(event, Round):
                        on_round(event.done)
                    else:
                        measured: Measured = event
        except Lost as lost:
            for i in (turn, baseline) if turn == again else (turn,):
                entries[i].outcome, entries[i].reason = lost.outcome, lost.reason
            if turn in (baseline, again):
                return Measured(entries)
            continue
        for i, entry in zip(left, measured.entries, strict=True):
            entries[i] = entry
        return dataclasses.replace(measured, entries=entries)


def _code(of: Cell | Timing) -> tuple[str, str | None]:
    return of.norm_id, of.norm_print


def _like(cell: Cell, asked: Choice, registry: Registry) -> Cell:
    """Return the cell of another norm in the same table."""
    _, asked = plan.asked_norm(asked, registry)
    norm_print = prints.whole_print(asked.name, asked.params, registry)
    return msgspec.structs.replace(cell, norm=asked.name, params=asked.params, label=asked.shown, norm_print=norm_print)


def _timing(cell: Cell, entry: Entry, measured: Measured, writer: Writer) -> Timing:
    made = entry.made or Made(norm_print=cell.norm_print, task_print=cell.task_print)
    kept = entry.outcome == "measured" and measured.stopped != "failed"
    return Timing(
        **shared(Timing, cell, made),
        sources=writer.sources(made.files),
        outcome=entry.outcome,
        reason=entry.reason,
        train=_rounded(entry.train) if kept else [],
        evaluation=_rounded(entry.evaluation) if kept else [],
        peak_memory=entry.peak_memory if kept else None,
    )


def _rounded(seconds: list[float]) -> list[float]:
    """Return times as they are stored, to a microsecond."""
    return [round(value, 6) for value in seconds]
