"""`normbench throughput`: measure how fast each norm trains, alone; print the throughput leaderboard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from normbench import plugins
from normbench.cli import options, output
from normbench.cli.run import FAILURES, say_untimed, sessions_measured
from normbench.errors import UsageError
from normbench.execute import Request, Session, environment, measure_all, of_folder, prepare, settled
from normbench.execute.run import data_dir as resolved_data_dir
from normbench.execute.sessions import SECONDS
from normbench.plugins import Registry
from normbench.records import SessionRecord
from normbench.store import Store


def command(
    what: Annotated[
        str,
        typer.Argument(metavar="SUITE|FILE.toml|DIR", help="A suite, or a results folder: the norms of its runs."),
    ],
    norms: options.Norms = None,
    settings: options.Settings = None,
    plugin: options.Plugins = None,
    out: options.Out = None,
    data_dir: options.DataDir = None,
    device: options.Device = "auto",
    seconds: options.Seconds = SECONDS,
    form: output.FormatOption = "terminal",
    json: output.JsonOption = False,
    quiet: options.Quiet = False,
) -> int:
    """Measure the throughput of every norm of a suite or a results folder anew, and print the leaderboard.

    One session a task and condition: rounds in which each norm trains for a moment, and the baseline twice. Leave the
    machine alone meanwhile.
    """
    form = output.chosen_format(form, json)
    if Path(what).is_file() and Path(what).suffix == ".json":
        raise UsageError(f"{what}: an exported file, which is not written to; give a suite or a results folder")
    if Path(what).is_dir() and Store(Path(what)).exists():
        for option, value in (("--norm", norms), ("--set", settings), ("--out", out)):
            if value:
                raise UsageError(f"{option}: {what} is a results folder, whose norms are measured as its runs had them")
        asked = _of_folder(Path(what), tuple(plugin or ()), device)
    else:
        asked = _of_suite(
            Request(what, norms=norms or (), settings=settings or (), plugin_files=plugin or (), out=out, device=device)
        )
    output.warn_of_plugins(asked.registry)
    measured = _measured(asked, resolved_data_dir(data_dir), seconds, quiet)
    output.warn_of_unreadable(asked.store)
    from normbench.boards import tables

    store = asked.store
    output.put_tables(tables(Store(store.folder), ("throughput",), frozenset(one.table for one in measured)), form)
    if not quiet:
        output.say(f"{sessions_measured(measured)}; all in {store.folder}")
    return FAILURES if say_untimed(measured) else 0


@dataclass(frozen=True)
class _Asked:
    """The sessions to measure, with what, on what, and where they are stored."""

    wanted: list[Session]
    registry: Registry
    device: str
    store: Store


def _of_folder(folder: Path, files: tuple[Path, ...], device: str) -> _Asked:
    registry, store = plugins.current(files), Store(folder)
    wanted = of_folder(store, registry)
    if not wanted:
        output.warn_of_unreadable(store)
        raise UsageError(f"{folder}: no run of trials on one device is stored there; give a suite")
    return _Asked(wanted, registry, environment.resolve(device), store)


def _of_suite(request: Request) -> _Asked:
    prepared = settled(prepare(request))
    output.warn_of_unused(prepared)
    if not prepared.asked_sessions:
        raise UsageError(f"{request.suite}: throughput is measured on one device, and every trial of it takes several")
    return _Asked(prepared.asked_sessions, prepared.registry, prepared.device, prepared.store)


def _measured(asked: _Asked, data_dir: Path, seconds: float, quiet: bool) -> list[SessionRecord]:
    from normbench.cli.progress import say_session

    with asked.store.writer() as writer:
        found = measure_all(
            asked.wanted,
            writer,
            registry=asked.registry,
            device=asked.device,
            data_dir=str(data_dir),
            seconds=seconds,
            on_session=None if quiet else say_session,
        )
        return list(found)
