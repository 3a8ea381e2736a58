"""The throughput board: how many samples a second each norm trains and evaluates, beside the baseline."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from normbench.boards.sessions import Figures, Sessions
from normbench.boards.standing import ranked
from normbench.stats.intervals import ratio_over_rounds
from normbench.store.records import UNKNOWN, EnvironmentRecord, SessionRecord
from normbench.tables.table import Column, Subject, Table, TableRow, Value, defined, flags_of
from normbench.texts import visible

MEBIBYTE = 2**20
#: What each column is: docs/metrics.md begins with the same words.
MEANINGS = {
    "train_samples_per_s": "Samples trained per second: the median over the rounds.",
    "eval_samples_per_s": "Samples evaluated per second: the median over the rounds.",
    "ratio": "The norm's training speed as a multiple of the baseline's in the same round: the median over the rounds, "
    "with its 95% interval.",
    "share": "The part of a training step that the norm takes, 1 − (seconds without a norm) / (seconds with it), in "
    "the same round: the median over the rounds.",
    "peak_memory": "The most memory that torch's CUDA allocator held at once during training steps, not counting what "
    "stays between steps: weights, the optimizer's state, data.",
}


def throughput(sessions: Sessions) -> Table:
    """Return the board of one table's sessions, its norms by their ratios to the baseline."""
    measured = list(sessions.figures.values())
    warnings = [*_doubts(sessions), *_edited(sessions)]
    return Table(
        board="throughput",
        **Subject.of(sessions.latest, sessions.baseline).head,
        columns=_columns(sessions.latest, sessions.baseline),
        # Norms share no seeds here, so that ranks have no intervals.
        rows=ranked([_row(one) for one in measured], [{0: one.ratio.centre} for one in measured]),
        apart=list(sessions.apart.values()),
        warnings=warnings,
        notes=[*_notes(sessions), *warnings],
    )


def _columns(latest: SessionRecord, baseline: str) -> list[Column]:
    columns = [
        Column("train_samples_per_s", "train\nsamples/s", "samples/s", 0, "up"),
        Column("eval_samples_per_s", "eval\nsamples/s", "samples/s", 0, "up"),
        Column("ratio", f"ratio to\n{visible(baseline)} [95%]", "", 3, "up", ends=True),
        Column("share", "share of\na step, %", "%", 0, "down"),
    ]
    if latest.device == "cuda":
        columns.append(Column("peak_memory", "peak\nMiB", "MiB", 1, "down"))
    return defined(columns, MEANINGS)


def _row(one: Figures) -> TableRow:
    session, timing = one.session, one.timing
    evaluated = session.batches * session.batch
    values = {
        "train_samples_per_s": Value(one.train_samples_per_s),
        "eval_samples_per_s": Value(statistics.median(evaluated / seconds for seconds in timing.evaluation)),
        "ratio": Value(1.0) if timing is one.base else Value.of(one.ratio),
        "share": Value(one.share),
        "peak_memory": Value(None if timing.peak_memory is None else timing.peak_memory / MEBIBYTE),
    }
    return TableRow(timing.label, None, 1, values, [*flags_of(values), *["a-a"] * _drifts(session)])


def _drifts(session: SessionRecord) -> bool:
    """Whether the baseline's ratio to itself is surely not 1."""
    itself = ratio_over_rounds(session.baseline.train, session.again.train)
    return not itself.low <= 1 <= itself.high


def _notes(sessions: Sessions) -> Iterator[str]:
    shown = _shown(sessions)
    if not shown:
        return
    yield (
        f"ratio: training speed over that of {sessions.baseline!r} in the same round; the median over the "
        "rounds, with its 95% interval. Compare nothing else between machines"
    )
    if any(one.share is not None for one in sessions.figures.values()):
        yield "share of a step: what the norm adds to a step without a norm, as a share of the whole step"
    for session in shown:
        yield _described(session, sessions.environments)
    if len(shown) > 1:
        yield (
            f"joined: the norms were measured in {len(shown)} sessions, each beside {sessions.baseline!r}; compare "
            "their ratios, not their samples a second"
        )


def _shown(sessions: Sessions) -> list[SessionRecord]:
    return list({one.session.session: one.session for one in sessions.figures.values()}.values())


def _doubts(sessions: Sessions) -> Iterator[str]:
    """Say in which sessions the machine was not steady, and where sessions are not alike."""
    shown = _shown(sessions)
    for session in shown:
        if _drifts(session):
            yield (
                f"not steady: in session {session.session} {session.baseline.label!r} was not as fast as itself; "
                "measure again"
            )
    if len({session.environment for session in shown}) > 1:
        yield "mixed: sessions in more than one environment (versions or hardware) stand side by side"


def _edited(sessions: Sessions) -> Iterator[str]:
    """Say which norms were trained with other code than they were timed with."""
    older: list[str] = []
    newer: list[str] = []
    for one in sessions.figures.values():
        if (one.session.table_id, one.timing.norm_id) not in sessions.trained:
            continue
        run, cell = sessions.trained[one.session.table_id, one.timing.norm_id]
        code = cell.norm_print, cell.task_print
        if None not in code and code != (one.timing.norm_print, one.session.task_print):
            (older if run.started > one.session.started else newer).append(repr(one.timing.label))
    if older:
        yield f"edited since its session: {', '.join(older)}; the throughput here is that of the older code"
    if newer:
        yield f"edited before its session: {', '.join(newer)}; the trials ran the older code: run the suite again"


def _described(session: SessionRecord, environments: Mapping[str, EnvironmentRecord]) -> str:
    """Say what a session ran on, how long, and whether the baseline equals itself."""
    environment = environments.get(session.environment, UNKNOWN)
    hardware = environment.accelerator or environment.processor or "unknown hardware"
    threads = f", {session.recipe.threads} thread{'s' * (session.recipe.threads > 1)}" * (session.device == "cpu")
    known = f"known to ±{100 * session.precision:g}%"
    why = {
        "precise": f"all ratios {known}",
        "time": f"stopped by its time limit before all ratios were {known}",
        "rounds": f"not all ratios {known}",
    }[session.stopped]
    base = session.baseline.label
    itself = ratio_over_rounds(session.baseline.train, session.again.train)
    return (
        f"session {session.session}: {hardware}{threads}; {session.rounds} rounds of {session.steps} "
        f"step{'s' * (session.steps > 1)} of {session.recipe.batch_size} samples, {why}; A/A ({base!r} to itself) "
        f"{itself.centre:.3f} [{itself.low:.3f}…{itself.high:.3f}]"
    )
