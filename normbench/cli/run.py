"""`normbench run`: run what is not stored of a suite, and print the leaderboards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from normbench.cli import options, output
from normbench.cli.output import say
from normbench.errors import UsageError
from normbench.execute import Request, Summary, prepare, run, settled
from normbench.execute.run import Prepared
from normbench.store import Store

#: Exit status where some trials ended in error, oom or timeout, or the disk is full.
FAILURES = 4


def command(
    suite: options.Suite,
    norms: options.Norms = None,
    seeds: options.Seeds = None,
    settings: options.Settings = None,
    plugin: options.Plugins = None,
    out: options.Out = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Where data lies.  [default: NORMBENCH_DATA, else the user's cache folder]",
            show_default=False,
        ),
    ] = None,
    device: options.Device = "auto",
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Reserved: trials run one after another.")] = 1,
    probes: options.Probes = None,
    retry: options.Retry = False,
    form: output.FormatOption = "terminal",
    json: output.JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> int:
    """Run what is not stored of a suite, and print the leaderboards.

    Each trial is stored as it ends. Running again finishes the rest; a layer that was edited is trained again.
    """
    form = output.chosen_format(form, json)
    if jobs != 1:
        raise UsageError(f"--jobs {jobs}: trials run one after another in this version; leave it at 1")
    request = Request(
        suite=suite,
        norms=norms or (),
        seeds=seeds,
        settings=settings or (),
        plugin_files=plugin or (),
        out=out,
        data_dir=data_dir,
        device=device,
        probes=probes or (),
        retry=retry,
    )
    prepared = settled(prepare(request))
    summary = _run(prepared, quiet)
    from normbench.boards import tables

    store = Store(summary.folder)
    boards = tables(store, only=prepared.tables)
    output.warn_of_unreadable(prepared.store)
    output.put_tables(boards, form)
    others = {cell.table for stored in store.runs() for cell in stored.cells} - prepared.tables
    if others and not quiet:
        say(f"{summary.folder} holds other tasks or conditions too: normbench leaderboard {summary.folder}")
    return _end(summary, quiet)


def _run(prepared: Prepared, quiet: bool) -> Summary:
    for plugin in prepared.registry.quarantined:
        say(f"normbench: {plugin}")
    if quiet or not prepared.todo:
        return run(prepared)
    from normbench.cli.progress import shown

    with shown(prepared) as (on_start, on_progress):
        return run(prepared, on_progress, on_start)


def _end(summary: Summary, quiet: bool) -> int:
    if not quiet:
        say(f"{summary.ran} trials run, {summary.stored_before} were stored before; all in {summary.folder}")
    if not summary.failed:
        return 0
    counted = Counter(outcome.outcome for outcome in summary.failed)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
    first = summary.failed[0]
    say(
        f"normbench: {len(summary.failed)} of {summary.ran} trials have no result ({counts}); the first, "
        f"{first.trial.norm} at rate {first.trial.recipe.rate:g}: {first.reason} "
        f"(normbench show {first.trial.key} --in {summary.folder})"
    )
    return FAILURES
