"""`normbench run`: run what is not stored of a suite, and print the leaderboards."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from normbench import saving
from normbench.cli import closing, options, output
from normbench.cli.output import say
from normbench.cli.reporting import Reporting
from normbench.cli.status import Status
from normbench.cli.trials import Names
from normbench.errors import UsageError
from normbench.execute import Request, Summary, on_device, prepare, run, until
from normbench.execute.prepare import Prepared
from normbench.store import Store
from normbench.store.records import SessionRecord
from normbench.surroundings import on_stderr
from normbench.texts import counted
from normbench.trials import FAILED

if TYPE_CHECKING:
    from normbench.compare.comparison import Comparison


@options.of_request(*options.REQUEST)
def command(
    request: Request,
    decided: options.Until = None,
    max_seeds: options.MaxSeeds = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write a report beside the results, as they come and at the end.")
    ] = False,
    notes: output.NotesOption = False,
    form: output.FormatOption = "terminal",
    json: output.JsonOption = False,
    quiet: options.Quiet = False,
) -> Status:
    """Run what is not stored of a suite, and print the leaderboards.

    Each trial is stored as it ends. Running again finishes the rest; a layer that was edited is trained again.
    """
    form = output.chosen_format(form, json)
    looks = options.looks(decided, max_seeds)
    if looks and request.seeds is not None:
        raise UsageError(f"--seeds {request.seeds}: with --until decided, --max-seeds says how many")
    first = dataclasses.replace(request, seeds=looks[0]) if looks else request
    prepared = on_device(prepare(first))
    output.warn_of_plugins(prepared.registry)
    output.warn_of_unused(prepared)
    if not quiet:
        output.warn_of_anew(prepared)
    summaries: list[Summary] = []
    comparison = None
    reporting = Reporting(prepared.store.folder) if report else None
    if looks:
        comparison = until.decided_run(request, looks, lambda look: summaries.append(runs(look, quiet, reporting)))
    else:
        summaries.append(runs(prepared, quiet, reporting))
    from normbench.boards import tables

    store = Store(prepared.store.folder)
    boards = tables(store, only=prepared.tables)
    output.warn_of_unreadable(prepared.store)
    output.put_tables(boards, form, notes=notes)
    if comparison is not None:
        _put_decided(comparison, form)
    if not quiet:
        _say_left_out(prepared, store)
    status = _end(_together(summaries), Names(prepared.cells), quiet)
    _draw(prepared.suite.pictures, store, prepared.tables)
    if reporting is not None:
        reporting.finish()
    if form == "terminal":
        closing.put(store, boards)
    return status


def _put_decided(comparison: Comparison, form: str) -> None:
    """Print what was decided: as a table or, where stdout is for programs, as one line per gated row on stderr."""
    from normbench.compare.text import sentence, terminal

    if form == "terminal":
        output.put("\n" + terminal(comparison, ascii_only=not output.speaks_unicode()))
        return
    for row in comparison.rows:
        if row.gate is not None:
            say(f"{row.word}: {sentence(row)}")


def _say_left_out(prepared: Prepared, store: Store) -> None:
    """Say which results the tables don't show."""
    if prepared.request.throughput and any(cell.recipe.ranks > 1 for cell in prepared.cells):
        say("throughput is measured on one device, so not for trials on several")
    if {cell.table_id for stored in store.runs() for cell in stored.cells} - prepared.tables:
        say(f"{store.folder} holds other tasks or conditions too: normbench leaderboard {store.folder}")


def _draw(pictures: Sequence[str], store: Store, tables: frozenset[str]) -> None:
    """Draw a suite's pictures beside the results, and say where; and of one that can't be drawn, why."""
    if not pictures:
        return
    from normbench.charts.pictures import figure, of_suite

    for word in pictures:
        file, asked = of_suite(word, store.folder)
        try:
            saving.save(file, figure(store, **asked, only=tables).encoded("png"))
        except UsageError as error:
            say(f"normbench: picture {word!r}: {error}")
        else:
            say(f"{file} written")


def _together(summaries: Sequence[Summary]) -> Summary:
    """Return several runs' summaries as that of one: what was stored before the first, each trial that failed once."""
    latest = {outcome.trial.key: outcome for summary in summaries for outcome in summary.failed}
    return dataclasses.replace(
        summaries[-1],
        ran=sum(summary.ran for summary in summaries),
        stored_before=summaries[0].stored_before,
        failed=list(latest.values()),
        warnings=list(dict.fromkeys(warning for summary in summaries for warning in summary.warnings)),
        notes={about: note for summary in summaries for about, note in summary.notes.items()},
    )


def runs(prepared: Prepared, quiet: bool, reporting: Reporting | None = None) -> Summary:
    """Run what is prepared, show its progress unless `quiet`, and keep a report up to date where one is asked for."""
    on_start = on_progress = on_session = None
    with on_stderr(), ExitStack() as stack:  # what a layer prints that trains in this process
        if not quiet:
            from normbench.cli.progress import shown

            on_start, on_progress, on_session = stack.enter_context(shown(prepared))
        if reporting is not None:
            on_progress, on_session = reporting.along(on_progress, on_session)
            stack.callback(reporting.stop)
        return run(prepared, on_progress, on_start, on_session)


def _end(summary: Summary, names: Names, quiet: bool) -> Status:
    """Say what the run did and what failed; return the exit status."""
    if not quiet:
        timed = f", {sessions_measured(summary.sessions)}" if summary.sessions else ""
        say(f"{summary.ran} trials run, {summary.stored_before} were stored before{timed}; all in {summary.folder}")
        for note in summary.notes.values():
            say(f"normbench: {note}")
    for warning in summary.warnings:
        say(f"normbench: {warning}")
    untimed = say_untimed(summary.sessions)
    if not summary.failed:
        return Status.FAILED if untimed else Status.DONE
    kinds = Counter(outcome.outcome for outcome in summary.failed)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    first = summary.failed[0]
    say(
        f"normbench: {len(summary.failed)} of {summary.ran} trials have no result ({counts}); the first, "
        f"{names.of(first.trial)}: {first.reason} "
        f"(normbench show {first.trial.key} --in {summary.folder})"
    )
    return Status.FAILED


def sessions_measured(sessions: Sequence[SessionRecord]) -> str:
    """Return how many sessions were measured, in words."""
    measured = sum(session.stopped != "failed" for session in sessions)
    return f"{counted(measured, 'throughput session')} measured"


def say_untimed(sessions: Sequence[SessionRecord]) -> bool:
    """Say which norms sessions could not measure, and the notes on others; return whether any could not."""
    timings = [(session, timing) for session in sessions for timing in session.timings]
    for session, timing in timings:
        if timing.outcome in FAILED or (timing.outcome == "measured" and timing.reason):
            say(f"normbench: throughput of {timing.label!r} on {session.task}: {timing.outcome}: {timing.reason}")
    return any(timing.outcome in FAILED for _, timing in timings)
