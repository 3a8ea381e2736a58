"""`normbench throughput`: measure how fast each norm trains, alone; print the throughput leaderboard."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from normbench import environment, plugins
from normbench.calls import Workplace
from normbench.cli import completion, folders, options, output
from normbench.cli.commands.run import say_untimed, sessions_measured
from normbench.cli.status import Status
from normbench.errors import UsageError
from normbench.execute import Request, on_device, prepare
from normbench.execute.request import executor_of
from normbench.store import Store
from normbench.surroundings import on_stderr
from normbench.throughput.wanted import ALONE, Session, measure_all, of_folder

_WHAT = Annotated[
    str,
    typer.Argument(
        metavar="SUITE|FILE.toml|DIR",
        help=f"A suite, or a results folder: the norms of its runs.  [default: {folders.THE_ONE}]",
        show_default=False,
        default_factory=str,
        autocompletion=completion.suites_and_results,
    ),
]


@options.of_request(
    *("suite", "norms", "settings", "plugin_files", "out", "data_dir", "device", "executor", "timeout"),
    suite=_WHAT,
    **options.OF_NORMS,
)
def command(
    request: Request,
    seconds: options.Seconds = ALONE.seconds,
    notes: output.NotesOption = False,
    form: output.FormatOption = "terminal",
    json: output.JsonOption = False,
    quiet: options.Quiet = False,
) -> Status:
    """Measure the throughput of every norm of a suite or a results folder anew, and print the leaderboard.

    One session for each task and condition: rounds in which each norm trains for a moment, and the baseline twice.
    Leave the machine alone meanwhile.
    """
    form = output.chosen_format(form, json)
    what = folders.chosen(Path(request.suite) if request.suite else None)
    if what.is_file() and what.suffix == ".json":
        raise UsageError(f"{what}: an exported file, which is not written to; give a suite or a results folder")
    if what.is_dir() and Store(what).exists():
        given = [name for name in ("norms", "settings", "out") if getattr(request, name)]
        if given:
            word = request.words(given[0], *[*request.settings][: given[0] == "settings"])
            raise UsageError(f"{word}: {what} is a results folder, whose norms are measured as its runs had them")
        wanted, store, at = _of_folder(what, request)
    else:
        wanted, store, at = _of_suite(request)
    output.warn_of_plugins(at.registry)
    from normbench.cli.progress import say_session

    effort = dataclasses.replace(ALONE, seconds=seconds)
    with store.writer() as writer, on_stderr():  # what a layer prints that is timed in this process
        measured = list(measure_all(wanted, writer, at, effort, None if quiet else say_session))
    output.warn_of_unreadable(store)
    from normbench.boards import tables

    boards = tables(Store(store.folder), ["throughput"], frozenset(one.table_id for one in measured))
    output.put_tables(boards, form, notes=notes)
    if not quiet:
        output.say(f"{sessions_measured(measured)}; all in {store.folder}")
    return Status.FAILED if say_untimed(measured) else Status.DONE


def _of_folder(folder: Path, request: Request) -> tuple[list[Session], Store, Workplace]:
    """Return the sessions of a results folder, where they are stored, and where they are measured."""
    files = tuple(request.plugin_files)
    registry, store = plugins.current(files), Store(folder)
    wanted = of_folder(store, registry)
    if not wanted:
        output.warn_of_unreadable(store)
        raise UsageError(f"{folder}: no run of trials on one device is stored there; give a suite")
    executor, device = executor_of(request, registry), environment.resolve(request.device)
    return wanted, store, Workplace(registry, device, request.data_folder(), executor, files)


def _of_suite(request: Request) -> tuple[list[Session], Store, Workplace]:
    """Return the same of a suite."""
    prepared = on_device(prepare(request))
    output.warn_of_unused(prepared)
    if not prepared.asked_sessions:
        raise UsageError(f"{request.suite}: throughput is measured on one device, and every trial of it takes several")
    return prepared.asked_sessions, prepared.store, prepared.workplace
