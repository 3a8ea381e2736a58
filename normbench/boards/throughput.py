"""The throughput board: how many samples a second each norm trains and evaluates, beside the baseline."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from normbench.boards.table import Column, Table, TableRow, Value, flags_of, ranks
from normbench.records import SessionRecord, Timing
from normbench.stats import Interval, ratio_over_rounds
from normbench.store import Store

MEBIBYTE = 2**20


@dataclass(frozen=True)
class _Figures:
    """One norm's rounds, in the latest session that measured it."""

    session: SessionRecord
    timing: Timing

    @property
    def ratio(self) -> Interval:
        """How many times the baseline's training samples a second, over the rounds."""
        return ratio_over_rounds(self.session.baseline.train, self.timing.train)

    @property
    def share(self) -> float | None:
        """How much of a training step the norm takes, against no norm in the same round."""
        without = self.session.without
        if without is None or without.outcome != "measured" or without.row == self.timing.row:
            return None
        return 1 - statistics.median(a / b for a, b in zip(without.train, self.timing.train, strict=True))


def sessions(store: Store, only: frozenset[str] | None = None) -> dict[str, list[SessionRecord]]:
    """Return the sessions of each table, oldest first; `only` leaves out all but these tables."""
    found: dict[str, list[SessionRecord]] = {}
    for session in store.sessions():
        if only is None or session.table in only:
            found.setdefault(session.table, []).append(session)
    return found


def throughput(measured: Sequence[SessionRecord], environments: dict[str, dict[str, Any]]) -> Table:
    """Return the board of one table's sessions: each norm as the latest session on this kind of device measured it."""
    latest = measured[-1]
    figures: dict[str, _Figures] = {}
    apart: dict[str, tuple[str, str]] = {}
    for session in measured:
        if session.device == latest.device:
            for timing in session.timings:
                figures.pop(timing.row, None)
                apart.pop(timing.row, None)
                if session.stopped == "failed" or timing.outcome != "measured":
                    apart[timing.row] = timing.label, _why_not(session, timing)
                else:
                    figures[timing.row] = _Figures(session, timing)
    found = list(figures.values())
    ranked = ranks([one.ratio.centre for one in found])
    ordered = sorted(zip(ranked, found, strict=True), key=lambda pair: pair[0])
    return Table(
        board="throughput",
        task=latest.task,
        task_version=latest.task_version,
        task_params=latest.task_params,
        condition=latest.condition,
        protocol="tuned" if latest.recipe.hold_out else "published",
        baseline=latest.baseline.label,
        rates=[],
        columns=_columns(latest),
        rows=[_row(one, rank) for rank, one in ordered],
        apart=list(apart.values()),
        notes=list(_notes(found, latest, environments)),
    )


def _columns(latest: SessionRecord) -> list[Column]:
    columns = [
        Column("train_samples_per_s", "train\nsamples/s", "samples/s", 0, "up"),
        Column("eval_samples_per_s", "eval\nsamples/s", "samples/s", 0, "up"),
        Column("ratio", f"ratio to\n{latest.baseline.label} [95%]", "", 3, "up", ends=True),
        Column("share", "share of\na step, %", "%", 0, "down"),
    ]
    if latest.device == "cuda":
        columns.append(Column("peak_memory", "peak\nMiB", "MiB", 1, "down"))
    return columns


def _row(one: _Figures, rank: int) -> TableRow:
    session, timing = one.session, one.timing
    trained, evaluated = session.steps * session.recipe.batch_size, session.batches * session.batch
    values = {
        "train_samples_per_s": Value(statistics.median(trained / seconds for seconds in timing.train)),
        "eval_samples_per_s": Value(statistics.median(evaluated / seconds for seconds in timing.evaluation)),
        "ratio": Value(1.0) if timing is session.baseline else Value.of(one.ratio),
        "share": Value(one.share),
        "peak_memory": Value(None if timing.peak_memory is None else timing.peak_memory / MEBIBYTE),
    }
    flags = flags_of(values)
    if _drifts(session):
        flags.append("a-a")
    return TableRow(timing.label, rank, 1, values, flags)


def _drifts(session: SessionRecord) -> bool:
    """Whether the baseline's ratio to itself is surely not 1."""
    itself = ratio_over_rounds(session.baseline.train, session.again.train)
    return not itself.low <= 1 <= itself.high


def _why_not(session: SessionRecord, timing: Timing) -> str:
    if timing.outcome != "measured":
        return f"{timing.outcome}: {timing.reason or 'no reason given'}"
    return f"the baseline {session.baseline.label} could not be measured"


def _notes(found: Sequence[_Figures], latest: SessionRecord, environments: dict[str, dict[str, Any]]) -> Iterator[str]:
    shown = list({one.session.session: one.session for one in found}.values())
    if not shown:
        return
    yield (
        f"ratio to {latest.baseline.label}: train samples/s as a multiple of its in the same round, the median with "
        "the 95% interval of order statistics; the only figure to compare between machines"
    )
    for session in shown:
        yield _described(session, environments)
    if len(shown) > 1:
        yield (
            f"the norms were measured in {len(shown)} sessions, each beside the baseline: compare their ratios, not "
            "their samples a second"
        )
    if any(one.share is not None for one in found):
        yield "share of a step: what the norm adds to a step without a norm, as a share of the whole step"


def _described(session: SessionRecord, environments: dict[str, dict[str, Any]]) -> str:
    """Say what a session ran on, how long, and whether the baseline equals itself."""
    environment = environments.get(session.environment, {})
    hardware = environment.get("accelerator") or environment.get("processor", "unknown hardware")
    threads = f", {session.recipe.threads} thread{'s' * (session.recipe.threads > 1)}" * (session.device == "cpu")
    why = {
        "precise": "each interval lies within ±3%",
        "time": "the time allowed was spent: not each interval lies within ±3%",
        "rounds": "not each interval lies within ±3%",
    }[session.stopped]
    itself = ratio_over_rounds(session.baseline.train, session.again.train)
    doubt = "; that excludes 1: the machine was not steady, measure again" if _drifts(session) else ""
    return (
        f"session {session.session}: {hardware}{threads}; {session.rounds} rounds of {session.steps} steps of "
        f"{session.recipe.batch_size}; {why}; {session.baseline.label} to itself {itself.centre:.3f} "
        f"[{itself.low:.3f}…{itself.high:.3f}]{doubt}"
    )
