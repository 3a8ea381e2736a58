"""The throughput board: how many samples a second each norm trains and evaluates, beside the baseline."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from normbench.stats import Interval, ratio_over_rounds
from normbench.store import Store
from normbench.store.records import SessionRecord, Timing
from normbench.tables.table import Column, Subject, Table, TableRow, Value, flags_of, ranks
from normbench.texts import in_a_line, visible

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Figures:
    """One norm's rounds, in the latest session that measured it, and those of what it is compared to."""

    session: SessionRecord
    timing: Timing
    base: Timing

    @property
    def code(self) -> tuple[str | None, str | None]:
        """The prints of the norm and of the task."""
        return self.timing.norm_print, self.session.task_print

    def has_code_of(self, timing: Timing) -> bool:
        """Whether this was measured with the code that another session had: what failed there says nothing of it."""
        return timing.norm_print is not None and self.timing.has_code_of(timing)

    @property
    def ratio(self) -> Interval:
        """How many times the training samples a second of what it is compared to, over the rounds."""
        return ratio_over_rounds(self.base.train, self.timing.train)

    @property
    def share(self) -> float | None:
        """How much of a training step the norm takes, against no norm in the same round."""
        without = self.session.without
        if without is None or without.outcome != "measured" or without.norm_id == self.timing.norm_id:
            return None
        return 1 - statistics.median(a / b for a, b in zip(without.train, self.timing.train, strict=True))


class Used(NamedTuple):
    """When a run began, and the prints of a norm and its task that it used."""

    started: str
    code: tuple[str | None, str | None]


def sessions(store: Store, only: frozenset[str] | None = None) -> dict[str, list[SessionRecord]]:
    """Return the sessions of each table, oldest first; `only` leaves out all but these tables."""
    found: dict[str, list[SessionRecord]] = {}
    for session in store.sessions():
        if only is None or session.table_id in only:
            found.setdefault(session.table_id, []).append(session)
    return found


@dataclass(frozen=True)
class Joined:
    """One table's sessions put together: each norm as the latest measured it, and why others are not there.

    Both by `Timing.row`; of the others the label and the reason. `latest` is the latest session that has figures.
    """

    latest: SessionRecord
    baseline: str
    figures: dict[str, Figures]
    apart: dict[str, tuple[str, str]]


def throughput(
    measured: Sequence[SessionRecord],
    environments: dict[str, dict[str, Any]],
    trained: dict[str, Used],
    baseline: str | None = None,
) -> Table:
    """Return the board of one table's sessions: each norm as the latest session measured it, beside a baseline.

    `trained` is the code that the latest run of each norm used, by `Cell.norm_id`; `joined` says which norms stand
    apart.
    """
    sessions = joined(measured, baseline)
    latest, found = sessions.latest, list(sessions.figures.values())
    ranked = ranks([one.ratio.centre for one in found])
    ordered = sorted(zip(ranked, found, strict=True), key=lambda pair: pair[0])
    return Table(
        board="throughput",
        **subject_of(latest, sessions.baseline).head,
        columns=_columns(latest, sessions.baseline),
        rows=[_row(one, rank) for rank, one in ordered],
        apart=list(sessions.apart.values()),
        notes=[*_notes(sessions, environments), *_edited(found, trained)],
    )


def subject_of(session: SessionRecord, baseline: str) -> Subject:
    """Return what a session's table is of, beside a baseline."""
    return Subject(
        task=session.task,
        task_version=session.task_version,
        task_params=session.task_params,
        condition=session.condition,
        protocol="tuned" if session.recipe.hold_out else "published",
        baseline=baseline,
        rates=[],
    )


def joined(measured: Sequence[SessionRecord], baseline: str | None = None) -> Joined:
    """Return the sessions of one table, put together, with ratios to a norm (left out: the sessions' own baseline).

    Sessions on another kind of device than the latest, or beside another baseline or other code of it or of the task,
    give no ratio that could stand beside the others: what only they measured stands apart. So does what was not
    measured in the rounds of the norm that is asked for, or beside other code of it.
    """
    latest = next((session for session in reversed(measured) if session.stopped != "failed"), measured[-1])
    figures: dict[str, Figures] = {}
    apart: dict[str, tuple[str, str]] = {}
    for session in measured:
        other = _why_other(session, latest)
        for timing in session.timings:
            failed = _why_not(session, timing)
            known = figures.get(timing.norm_id)
            if not other and not failed:
                figures[timing.norm_id] = Figures(session, timing, session.baseline)
                apart.pop(timing.norm_id, None)
            elif known is None or not (other or known.has_code_of(timing)):
                figures.pop(timing.norm_id, None)
                apart[timing.norm_id] = timing.label, failed or other
    if baseline not in (None, latest.baseline.label):
        figures, alone = _beside(figures, baseline)
        return Joined(latest, baseline, figures, apart | alone)
    return Joined(latest, latest.baseline.label, figures, apart)


def _beside(figures: dict[str, Figures], baseline: str) -> tuple[dict[str, Figures], dict[str, tuple[str, str]]]:
    """Return figures with ratios to another norm than the sessions' baseline, and whom that leaves out, with why."""
    latest = next((one for one in figures.values() if one.timing.label == baseline), None)
    kept: dict[str, Figures] = {}
    apart: dict[str, tuple[str, str]] = {}
    for row, one in figures.items():
        timings = one.session.timings
        base = next((each for each in timings if each.label == baseline and not _why_not(one.session, each)), None)
        if base is None:
            apart[row] = one.timing.label, f"not measured in the same rounds as {baseline!r}"
        elif latest is None or not latest.has_code_of(base):
            apart[row] = one.timing.label, f"measured with other code of {baseline!r}"
        else:
            kept[row] = Figures(one.session, one.timing, base)
    return kept, apart


def _columns(latest: SessionRecord, baseline: str) -> list[Column]:
    columns = [
        Column("train_samples_per_s", "train\nsamples/s", "samples/s", 0, "up"),
        Column("eval_samples_per_s", "eval\nsamples/s", "samples/s", 0, "up"),
        Column("ratio", f"ratio to\n{visible(baseline)} [95%]", "", 3, "up", ends=True),
        Column("share", "share of\na step, %", "%", 0, "down"),
    ]
    if latest.device == "cuda":
        columns.append(Column("peak_memory", "peak\nMiB", "MiB", 1, "down"))
    return columns


def _row(one: Figures, rank: int) -> TableRow:
    session, timing = one.session, one.timing
    trained, evaluated = session.steps * session.recipe.batch_size, session.batches * session.batch
    values = {
        "train_samples_per_s": Value(statistics.median(trained / seconds for seconds in timing.train)),
        "eval_samples_per_s": Value(statistics.median(evaluated / seconds for seconds in timing.evaluation)),
        "ratio": Value(1.0) if timing is one.base else Value.of(one.ratio),
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
    """Return why a session has no figures of a norm, or nothing where it has."""
    if timing.outcome != "measured":
        return f"{timing.outcome}: {in_a_line(timing.reason) or 'no reason given'}"
    return f"the baseline {session.baseline.label!r} could not be measured" if session.stopped == "failed" else ""


def _why_other(session: SessionRecord, latest: SessionRecord) -> str:
    """Return why a session's ratios can't stand beside the latest's, or nothing where they can."""
    ours, theirs = session.baseline, latest.baseline
    if session.device != latest.device:
        return f"measured on {session.device} alone; the others on {latest.device}"
    if ours.norm_id != theirs.norm_id:
        return f"measured beside {ours.label!r}, not beside {theirs.label!r}"
    if not ours.has_code_of(theirs) or session.task_print != latest.task_print:
        edited = "the task" if ours.has_code_of(theirs) else repr(theirs.label)
        return f"measured with other code of {edited}"
    return ""


def _notes(sessions: Joined, environments: dict[str, dict[str, Any]]) -> Iterator[str]:
    found = sessions.figures.values()
    shown = list({one.session.session: one.session for one in found}.values())
    if not shown:
        return
    yield (
        f"ratio: training speed over that of {sessions.baseline!r} in the same round; the median over the "
        "rounds, with its 95% interval. Compare nothing else between machines"
    )
    if any(one.share is not None for one in found):
        yield "share of a step: what the norm adds to a step without a norm, as a share of the whole step"
    for session in shown:
        yield _described(session, environments)
    if len(shown) > 1:
        yield (
            f"joined: the norms were measured in {len(shown)} sessions, each beside {sessions.baseline!r}; compare "
            "their ratios, not their samples a second"
        )
    if len({session.environment for session in shown}) > 1:
        yield "mixed: sessions in more than one environment (versions or hardware) stand side by side"


def _edited(found: Sequence[Figures], trained: dict[str, Used]) -> Iterator[str]:
    """Say which norms were trained with other code than they were timed with."""
    older: list[str] = []
    newer: list[str] = []
    for one in found:
        used = trained.get(one.timing.norm_id)
        if used is not None and None not in used.code and used.code != one.code:
            (older if used.started > one.session.started else newer).append(repr(one.timing.label))
    if older:
        yield f"edited since its session: {', '.join(older)}; the throughput here is that of the older code"
    if newer:
        yield f"edited before its session: {', '.join(newer)}; the trials are of the older code: run the suite again"


def _described(session: SessionRecord, environments: dict[str, dict[str, Any]]) -> str:
    """Say what a session ran on, how long, and whether the baseline equals itself."""
    environment = environments.get(session.environment, {})
    hardware = environment.get("accelerator") or environment.get("processor") or "unknown hardware"
    threads = f", {session.recipe.threads} thread{'s' * (session.recipe.threads > 1)}" * (session.device == "cpu")
    known = f"known to ±{100 * session.precision:g}%"
    why = {
        "precise": f"all ratios {known}",
        "time": f"out of time before all ratios were {known}",
        "rounds": f"not all ratios {known}",
    }[session.stopped]
    base = session.baseline.label
    itself = ratio_over_rounds(session.baseline.train, session.again.train)
    doubt = f": {base!r} was not as fast as itself, so the machine was not steady; measure again"
    return (
        f"session {session.session}: {hardware}{threads}; {session.rounds} rounds of {session.steps} "
        f"step{'s' * (session.steps > 1)} of {session.recipe.batch_size} samples, {why}; A/A ({base!r} to itself) "
        f"{itself.centre:.3f} [{itself.low:.3f}…{itself.high:.3f}]{doubt * _drifts(session)}"
    )
