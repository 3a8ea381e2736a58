"""`normbench compare`: is HEAD worse than BASE? A table, and an exit status to trust."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normbench import gates as gating
from normbench import plugins, saving
from normbench.cli import completion, folders, options, output
from normbench.cli.commands.run import runs
from normbench.cli.output import annotate, say
from normbench.cli.status import Status
from normbench.compare import benchmark_files
from normbench.errors import UsageError, unknown
from normbench.execute import Request, until
from normbench.store import Store
from normbench.surroundings import on_stderr

if TYPE_CHECKING:
    from normbench.compare.comparison import Comparison

FORMATS = (*output.FORMATS, "junit")
#: The form of a file that -o names, by its ending.
ENDINGS = {".md": "github", ".xml": "junit", ".json": "json", ".csv": "csv", ".tex": "latex_booktabs"}


@options.of_request("plugin_files", "data_dir", "device", "jobs", "gates")
def command(
    request: Request,
    base: Annotated[
        Path,
        typer.Argument(
            metavar="BASE",
            help="A results folder, an export, or benchmarks' JSON.",
            autocompletion=completion.results,
        ),
    ],
    head: Annotated[
        Path,
        typer.Argument(metavar="HEAD", help="The same, to compare with BASE.", autocompletion=completion.results),
    ],
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Also fail on unclear rows that could be ok, and on any that vanished.",
            rich_help_panel=options.STATISTICS,
        ),
    ] = False,
    require_baseline: Annotated[
        bool,
        typer.Option(
            "--require-baseline",
            help="End with status 3 where BASE is not there.",
            rich_help_panel=options.STATISTICS,
        ),
    ] = False,
    decided: options.Until = None,
    max_seeds: options.MaxSeeds = None,
    fingerprint: Annotated[
        bool,
        typer.Option(
            "--fingerprint",
            help="Train in HEAD only what BASE's fingerprints say has changed.",
            rich_help_panel=options.WHAT,
        ),
    ] = False,
    save: Annotated[
        list[Path] | None,
        output.file_option("FILE", "Also write .md, .xml (JUnit), .json, .csv or .tex."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.", autocompletion=lambda: [*FORMATS]
        ),
    ] = "terminal",
    json: output.JsonOption = False,
    quiet: options.Quiet = False,
) -> Status:
    """Compare two results folders, or exports: per metric BASE, HEAD, the difference and a verdict.

    Gates say what may get worse by how much: --fail, else [gate] of the suite that HEAD ran. Ends with status 1 where
    one is surely exceeded or a row under one vanished, 3 where there is nothing to compare, 4 where trials of HEAD
    crashed.
    """
    form = "json" if json else form
    if form not in FORMATS:
        raise unknown("format", form, FORMATS, "--format")
    for file in save or ():
        if file.suffix not in ENDINGS:
            raise UsageError(f"-o {file}: it ends in {', '.join(ENDINGS)}")
    saving.check(save or (), [base, head])
    if request.plugin_files:
        # What is asked for by name is looked at, needed or not.
        output.warn_of_plugins(plugins.current(tuple(request.plugin_files)))
    given = dict(request.gates)
    if not base.exists():
        return _no_baseline(base, head, required=require_baseline)
    if base.is_file() and benchmark_files.is_benchmarks(base):
        from normbench.compare import pytest_benchmark

        if decided or fingerprint:
            raise UsageError(f"{base}: files of benchmarks are only read; --until and --fingerprint train in folders")
        timed = benchmark_files.read(base)
        comparison = pytest_benchmark.compare(timed, benchmark_files.read(head), pytest_benchmark.asked(given, timed))
        _put(comparison, form, save or [])
        return status(comparison, strict=strict)
    gating.gates(given, "--fail")
    looks = options.looks(decided, max_seeds)
    comparison = _compared(Store(base), Store(head), given, looks, fingerprint, request, quiet)
    _put(comparison, form, save or [])
    return status(comparison, strict=strict)


def _compared(
    ours: Store,
    theirs: Store,
    given: dict[str, str],
    looks: list[int],
    fingerprint: bool,
    request: Request,
    quiet: bool,
) -> Comparison:
    """Compare, training first in HEAD what is asked to be."""
    from normbench.compare.folders import compare, gates_of

    folders.require_runs(ours)
    unchanged: frozenset[tuple[str, str]] = frozenset()
    run = partial(runs, quiet=quiet)
    if fingerprint:
        with on_stderr():
            unchanged = until.fingerprinted(ours, theirs, request, run, looks)
    else:
        folders.require_runs(theirs)
    if not quiet:
        _say_other_gates(ours, theirs)
    gates = gates_of(ours, theirs, given)
    if looks and theirs.runs():
        comparison = until.decided_compare(ours, theirs, gates, looks, request, run, unchanged)
    else:
        comparison = compare(ours, theirs, gates, unchanged=unchanged)
    for store in (ours, theirs):
        output.warn_of_unreadable(store)
    return comparison


def _say_other_gates(base: Store, head: Store) -> None:
    """Say where the suites that BASE and HEAD ran last have other gates."""
    ours, theirs = (runs[-1].suite.get("gate", {}) if runs else {} for runs in (base.runs(), head.runs()))
    if ours != theirs and base.exists() and head.exists():
        say(f"normbench: [gate] of HEAD's suite is not BASE's: {_spelled(theirs)}, not {_spelled(ours)}")


def _spelled(table: dict[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in table.items()) or "none"


def _no_baseline(base: Path, head: Path, *, required: bool) -> Status:
    how = f"cp -r {head} {base}" if head.is_dir() else f"cp {head} {base}"
    if base.suffix in (".json", ".parquet") and head.is_dir():
        how = f"normbench export {head} -o {base}"
    say(f"normbench: there is no baseline {base} yet; {how} makes HEAD the baseline")
    return Status.INCOMPARABLE if required else Status.DONE


def status(comparison: Comparison, *, strict: bool) -> Status:
    """Say on stderr what fails, as annotations in a GitHub job, and return the exit status."""
    from normbench.compare.text import told

    failing = comparison.failing(strict=strict)
    for row in failing:
        annotate("error", row.word, told(row))
    for warning in comparison.warnings:
        annotate("warning", "gate", warning)
    for row in comparison.rows:
        if row.word in ("unclear", "vanished") and row not in failing and row.could_be_ok:
            annotate("warning", row.word, told(row))
    if failing:
        return Status.REGRESSED
    if comparison.crashed:
        say(f"normbench: {comparison.crashed} trials of HEAD have no result (error, oom or timeout)")
        return Status.FAILED
    if not comparison.compared:
        say("normbench: nothing in common: no row has results on both sides")
        return Status.INCOMPARABLE
    return Status.INCOMPARABLE if strict and comparison.idle else Status.DONE


def _put(comparison: Comparison, form: str, save: list[Path]) -> None:
    from normbench.compare.text import FORMATS as WRITERS
    from normbench.compare.text import github, terminal

    plain = form == "terminal" and not output.speaks_unicode()
    output.put(terminal(comparison, ascii_only=True) if plain else WRITERS[form](comparison))
    for file in save:
        saving.save(file, (WRITERS[ENDINGS[file.suffix]](comparison) + "\n").encode())
    output.step_summary(lambda: github(comparison))
