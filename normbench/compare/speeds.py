"""Throughput of two stores side by side: ratios to the baseline, from sessions on like machines only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from normbench.boards.sessions import sessions
from normbench.compare.comparison import ComparedRow, changes
from normbench.errors import UsageError
from normbench.gates import THROUGHPUT, Gate
from normbench.stats.verdicts import Tested, hodges_lehmann, two_sample_test
from normbench.store import Store
from normbench.store.records import UNKNOWN, EnvironmentRecord, SessionRecord, Timing
from normbench.tables.table import Subject
from normbench.trials import FAILED

#: From so many sessions per side on, their medians are compared; of fewer, the rounds of the latest.
SESSIONS = 3
#: The smallest gate with one session per side: a ratio changes by 1-2% between sessions even if nothing changed.
SMALLEST = 0.10
#: What two sessions lie apart by themselves, in logs: without it one session per side calls a loss of the margin ok in
#: 27 of 100 cases.
APART = math.log1p(0.02)


@dataclass(frozen=True)
class TimedRow:
    """The training speed of one norm as a multiple of the baseline's, in BASE and in HEAD; `tested` is of its log.

    `common` are the fields by which a ComparedRow says what it is of.
    """

    common: dict[str, Any]
    base: float
    head: float
    tested: Tested
    sessions: int
    identical: bool


def timed(base: Store, head: Store, gate: Gate | None) -> tuple[list[TimedRow], list[ComparedRow], list[str]]:
    """Return the rows of two stores' sessions, those that vanished, and notes on what can't be compared.

    A table that HEAD has no session of is left out: it was not measured, and nobody said that it should be.

    Raises UsageError for a gate below 10% where a side has fewer than 3 sessions.
    """
    ours, theirs = sessions(base), sessions(head)
    known = {**base.environments(), **head.environments()}
    rows: list[TimedRow] = []
    vanished: list[ComparedRow] = []
    notes: list[str] = []
    for table in ours:
        before, after = _like(ours[table]), _like(theirs.get(table, []))
        if not before or not theirs.get(table):
            continue
        vanished += _vanished(before, theirs[table][-1], after, gate)
        if not after:
            continue
        hard = changes(*(_hard(known.get(side[-1].environment, UNKNOWN), side[-1]) for side in (before, after)))
        if before[-1].baseline.norm_id != after[-1].baseline.norm_id:
            hard.append(f"baseline {before[-1].baseline.label!r} → {after[-1].baseline.label!r}")
        if hard:
            notes.append(f"throughput of {before[-1].task} can't be compared: {', '.join(hard)}")
            continue
        rows += _rows(before, after, gate)
    if gate is not None and gate.margin < SMALLEST and any(row.sessions == 1 and not row.identical for row in rows):
        raise UsageError(
            f"gate {gate}: with one session per side a margin is 10% or more; this one needs {SESSIONS} sessions per "
            "side, BASE and HEAD measured alternately"
        )
    return rows, vanished, notes


def log_margins(margin: float, *, rises: bool = False) -> tuple[float, float]:
    """Return a loss of a share, and of half of it, in logs: of what falls, or of what `rises` as it gets worse."""
    sign = 1 if rises else -1
    return sign * math.log1p(sign * margin), sign * math.log1p(sign * margin / 2)


def _norms(measured: Sequence[SessionRecord]) -> Iterable[str]:
    return dict.fromkeys(timing.norm_id for session in measured for timing in session.norms)


def _common(session: SessionRecord, timing: Timing) -> dict[str, Any]:
    return {
        "subject": Subject.of(session, session.baseline.label),
        "table_id": session.table_id,
        "norm_id": timing.norm_id,
        "norm": timing.label,
        "metric": THROUGHPUT,
        "unit": "ratio",
    }


def _vanished(
    before: Sequence[SessionRecord], latest: SessionRecord, after: Sequence[SessionRecord], gate: Gate | None
) -> Iterator[ComparedRow]:
    for norm in _norms(before):
        ours = _measured(before, norm)
        if ours and not _measured(after, norm):
            failed = next((each for each in latest.norms if each.norm_id == norm and each.outcome in FAILED), None)
            why = f"{failed.outcome}: {failed.reason}" if failed else "HEAD has no speed of it"
            yield ComparedRow(**_common(*ours[-1]), word="vanished", gate=gate, why=why, crashed=failed is not None)


def _like(measured: Sequence[SessionRecord]) -> list[SessionRecord]:
    """Return the sessions that were measured like the latest: its device, environment, baseline and code."""
    usable = [session for session in measured if session.stopped != "failed"]

    def kind(session: SessionRecord) -> tuple[Any, ...]:
        return session.device, session.environment, session.baseline.norm_id, session.task_print

    same = [session for session in usable if kind(session) == kind(usable[-1])]
    return [session for session in same if session.baseline.has_code_of(usable[-1].baseline)]


def _hard(environment: EnvironmentRecord, session: SessionRecord) -> dict[str, str]:
    """Return what must be the same for two timings to be compared."""
    keys = ("accelerator", "processor", "platform")
    facts = {key: getattr(environment, key) for key in keys if getattr(environment, key)}
    torch = ".".join(environment.packages.get("torch", "").split(".")[:2])
    return {**facts, "torch": torch, "device": session.device}


def _rows(before: Sequence[SessionRecord], after: Sequence[SessionRecord], gate: Gate | None) -> Iterator[TimedRow]:
    lost, half = log_margins(gate.margin if gate else SMALLEST)
    for norm in _norms(before):
        ours, theirs = _measured(before, norm), _measured(after, norm)
        if not ours or not theirs:
            continue
        base, head = [[_median(*one) for one in side] for side in (ours, theirs)]
        if min(len(base), len(head)) >= SESSIONS:
            tested = two_sample_test(base, head, lost, half)
        else:
            base, head = base[-1:], head[-1:]
            tested = hodges_lehmann(_logs(*ours[-1]), _logs(*theirs[-1]), lost, half, APART)
        yield TimedRow(
            common=_common(*ours[-1]),
            base=math.exp(statistics.fmean(base)),
            head=math.exp(statistics.fmean(head)),
            tested=tested,
            sessions=min(len(base), len(head)),
            identical={one.session for one, _ in ours} == {one.session for one, _ in theirs},
        )


def _measured(measured: Sequence[SessionRecord], norm: str) -> list[tuple[SessionRecord, Timing]]:
    """Return a norm in each session that measured it with its latest code; the baseline itself has no ratio."""
    pairs = [
        (session, timing)
        for session in measured
        for timing in session.norms
        if timing.norm_id == norm and timing.outcome == "measured" and norm != session.baseline.norm_id
    ]
    return [pair for pair in pairs if pair[1].has_code_of(pairs[-1][1])]


def _logs(session: SessionRecord, timing: Timing) -> list[float]:
    return [math.log(base / own) for base, own in zip(session.baseline.train, timing.train, strict=True)]


def _median(session: SessionRecord, timing: Timing) -> float:
    return statistics.median(_logs(session, timing))
