"""Throughput of two stores side by side: ratios to the baseline, from sessions on like machines only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from normbench.boards.throughput import sessions, subject_of
from normbench.errors import UsageError
from normbench.gates import Gate
from normbench.stats.verdicts import Tested, hodges_lehmann, two_sample_test
from normbench.store import Store
from normbench.store.records import UNKNOWN, EnvironmentRecord, SessionRecord, Timing
from normbench.tables.table import Subject
from normbench.trials import FAILED

#: Sessions a side from which they, and not the rounds of one, are what is compared.
SESSIONS = 3
#: The smallest gate that one session a side can carry: between sessions a ratio moves by 1-2% by itself.
SMALLEST = 0.10


@dataclass(frozen=True)
class Untimed:
    """A norm whose speed BASE has and HEAD has not; `crashed` where HEAD's session failed on it."""

    subject: Subject
    table_id: str
    norm_id: str
    norm: str
    why: str
    crashed: bool


@dataclass(frozen=True)
class TimedRow:
    """The training speed of one norm as a multiple of the baseline's, in BASE and in HEAD; `tested` is of its log."""

    subject: Subject
    table_id: str
    norm_id: str
    norm: str
    base: float
    head: float
    tested: Tested
    sessions: int
    identical: bool

    @property
    def flags(self) -> list[str]:
        """What a program should know."""
        return ["within-session"] if self.sessions == 1 else []


def timed(base: Store, head: Store, gate: Gate | None) -> tuple[list[TimedRow], list[Untimed], list[str]]:
    """Return the rows of two stores' sessions, those that HEAD lost, and why others can't be compared.

    A table that HEAD has no session of is left out: it was not measured, and nobody said that it should be.

    Raises UsageError for a gate below 10% where a side has fewer than 3 sessions.
    """
    ours, theirs = sessions(base), sessions(head)
    known = {**base.environments(), **head.environments()}
    rows: list[TimedRow] = []
    lost: list[Untimed] = []
    notes: list[str] = []
    for table in ours:
        before, after = _like(ours[table]), _like(theirs.get(table, []))
        if not before or not theirs.get(table):
            continue
        lost += _lost(before, theirs[table][-1], after)
        if not after:
            continue
        ran_on = (known.get(latest.environment, UNKNOWN) for latest in (before[-1], after[-1]))
        hard = list(_hard_differences(*ran_on))
        if before[-1].device != after[-1].device:
            hard.append(f"device {before[-1].device} → {after[-1].device}")
        if before[-1].baseline.norm_id != after[-1].baseline.norm_id:
            hard.append(f"baseline {before[-1].baseline.label!r} → {after[-1].baseline.label!r}")
        if hard:
            notes.append(f"throughput of {before[-1].task} can't be compared: {', '.join(hard)}")
            continue
        rows += _rows(before, after, gate)
    if gate is not None and gate.margin < SMALLEST and any(row.sessions == 1 and not row.identical for row in rows):
        raise UsageError(
            f"gate {gate}: one session a side carries a gate of 10% or more; for this it needs {SESSIONS} sessions a "
            "side, of BASE and HEAD by turns"
        )
    return rows, lost, notes


def _lost(before: Sequence[SessionRecord], latest: SessionRecord, after: Sequence[SessionRecord]) -> Iterator[Untimed]:
    for row in dict.fromkeys(timing.norm_id for session in before for timing in session.norms):
        ours = _measured(before, row)
        if ours and not _measured(after, row):
            session, timing = ours[-1]
            found = next((other for other in latest.norms if other.norm_id == row), None)
            crashed = found is not None and found.outcome in FAILED
            why = f"{found.outcome}: {found.reason}" if found and crashed else "HEAD has no speed of it"
            yield Untimed(
                subject_of(session, session.baseline.label), session.table_id, row, timing.label, why, crashed
            )


def _like(found: Sequence[SessionRecord]) -> list[SessionRecord]:
    """Return the sessions that were measured like the latest: its device, environment, baseline and code."""
    usable = [session for session in found if session.stopped != "failed"]

    def kind(session: SessionRecord) -> tuple[Any, ...]:
        return session.device, session.environment, session.baseline.norm_id, session.task_print

    same = [session for session in usable if kind(session) == kind(usable[-1])]
    return [session for session in same if session.baseline.has_code_of(usable[-1].baseline)]


def _hard_differences(before: EnvironmentRecord, after: EnvironmentRecord) -> Iterator[str]:
    """Yield in what two environments differ that no timing is comparable over."""
    for key in ("accelerator", "processor", "platform"):
        ours, theirs = (getattr(each, key) or "none" for each in (before, after))
        if ours != theirs:
            yield f"{key} {ours} → {theirs}"
    versions = [".".join(each.packages.get("torch", "").split(".")[:2]) for each in (before, after)]
    if versions[0] != versions[1]:
        yield f"torch {versions[0]} → {versions[1]}"


def _rows(before: Sequence[SessionRecord], after: Sequence[SessionRecord], gate: Gate | None) -> Iterator[TimedRow]:
    margin = gate.margin if gate else SMALLEST
    lost, half = -math.log1p(-margin), -math.log1p(-margin / 2)
    for row in dict.fromkeys(timing.norm_id for session in before for timing in session.norms):
        ours, theirs = _measured(before, row), _measured(after, row)
        if not ours or not theirs:
            continue
        base, head = [[_median(*one) for one in side] for side in (ours, theirs)]
        enough = min(len(base), len(head)) >= SESSIONS
        if enough:
            tested = two_sample_test(base, head, lost, half)
        else:
            base, head = base[-1:], head[-1:]
            tested = hodges_lehmann(_logs(*ours[-1]), _logs(*theirs[-1]), lost, half)
        session, timing = ours[-1]
        yield TimedRow(
            subject=subject_of(session, session.baseline.label),
            table_id=session.table_id,
            norm_id=row,
            norm=timing.label,
            base=math.exp(statistics.fmean(base)),
            head=math.exp(statistics.fmean(head)),
            tested=tested,
            sessions=min(len(base), len(head)),
            identical={one.session for one, _ in ours} == {one.session for one, _ in theirs},
        )


def _measured(found: Sequence[SessionRecord], row: str) -> list[tuple[SessionRecord, Timing]]:
    """Return a norm in each session that measured it with its latest code; the baseline itself has no ratio."""
    pairs = [
        (session, timing)
        for session in found
        for timing in session.norms
        if timing.norm_id == row and timing.outcome == "measured" and row != session.baseline.norm_id
    ]
    return [pair for pair in pairs if pair[1].has_code_of(pairs[-1][1])]


def _logs(session: SessionRecord, timing: Timing) -> list[float]:
    return [math.log(base / own) for base, own in zip(session.baseline.train, timing.train, strict=True)]


def _median(session: SessionRecord, timing: Timing) -> float:
    return statistics.median(_logs(session, timing))
